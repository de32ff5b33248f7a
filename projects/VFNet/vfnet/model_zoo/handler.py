"""`MODEL.WEIGHTS: vfnet://NAME`: the published weights of the config of that name."""

from __future__ import annotations

from typing import IO, Any

from detectron2.utils.file_io import PathHandler, PathManager

from .published import weights_url

PREFIX = "vfnet:"


class VFNetHandler(PathHandler):
    """Gives the local path of a published checkpoint, downloaded once and converted.

    After "vfnet:" and any slashes comes the config's name, such as vfnet_R50_1x. The file is
    fetched, checked and converted by the handler of `mmdet:`.
    """

    def _get_supported_prefixes(self) -> list[str]:
        return [PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        return PathManager.get_local_path(mmdet_path(path), force=force, **kwargs)

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> IO[Any]:
        return PathManager.open(mmdet_path(path), mode, buffering, **kwargs)


def mmdet_path(path: str) -> str:
    """The `mmdet://URL` that `vfnet://NAME` stands for.

    Raises:
        UserError: no weights are published under that name.
    """
    return f"mmdet://{weights_url(path[len(PREFIX) :].strip('/'))}"


def register_vfnet_handler() -> None:
    """Make Detectron2's PathManager understand `vfnet:`; calling it again changes nothing."""
    PathManager.register_handler(VFNetHandler(), allow_override=True)
