"""`MODEL.WEIGHTS: mmdet://PATH_OR_URL`: mmdet checkpoints through Detectron2's PathManager."""

from __future__ import annotations

import os
import re
from typing import IO, Any, NamedTuple

import torch
from detectron2.utils.file_io import PathHandler, PathManager
from iopath.common.file_io import get_cache_dir

from ...errors import UserError
from ...utils.files import sha256, write_aside
from ..download_check import check_download
from .conversion import convert_file

# Raise it when the same source would give another file: old ones in the cache are then left alone.
CONVERTER_VERSION = 2

PREFIX = "mmdet:"


class MMDetHandler(PathHandler):
    """Gives the local path of a converted mmdet checkpoint.

    The prefix has no slashes, because Detectron2 hands `mmdet:///abs.pth` on as `mmdet:/abs.pth`.
    What follows "mmdet:", "mmdet:/" or "mmdet://" is a path or an http(s) URL. Detectron2 removes
    a URL's query ("?...") before it asks for a file.
    """

    def _get_supported_prefixes(self) -> list[str]:
        return [PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        source = fetch_source(path, force)
        folder = os.path.join(get_cache_dir(), "vfnet_mmdet")
        target = os.path.join(folder, f"{source.sha256[:16]}_v{CONVERTER_VERSION}.pth")
        if not os.path.isfile(target):
            converted = convert_file(source.file)
            os.makedirs(folder, exist_ok=True)
            with write_aside(target) as stream:
                torch.save(converted, stream)
        return target

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> IO[Any]:
        if mode not in ("r", "rb"):
            raise UserError(f"{path} can only be read, not opened with mode {mode!r}")
        return open(self._get_local_path(path), mode, buffering)


class Source(NamedTuple):
    """A local file that is still to be converted."""

    file: str
    sha256: str


def register_mmdet_handler() -> None:
    """Make Detectron2's PathManager understand `mmdet:`; calling it again changes nothing."""
    PathManager.register_handler(MMDetHandler(), allow_override=True)


def fetch_source(path: str, force: bool = False) -> Source:
    """Find, or download once, the file that `path` means, and check a download's hash.

    Args:
        path: a path or URL after "mmdet:" and up to two slashes.
        force: ask the handler of that path or URL to fetch it anew.

    Raises:
        UserError: there is no such file, or it is not the one that its URL promises.
    """
    candidates = _candidates(path)
    for candidate in candidates:
        try:
            local = PathManager.get_local_path(candidate, force=force)
            if os.path.isfile(local):
                source = Source(local, sha256(local))
                check_download(candidate, *source)
                return source
        except OSError as error:
            raise UserError(
                f"{candidate} cannot be fetched ({error}). Check the address, or download it by "
                "other means and set MODEL.WEIGHTS, or --weights beside --config-file, to mmdet://FILE"
            ) from error
    raise UserError(
        f"{path}: there is no file at {' or '.join(candidates)}. After {PREFIX}// comes the path "
        "or URL of an mmdet checkpoint"
    )


def _candidates(path: str) -> list[str]:
    """What `path` may mean, likeliest first: "mmdet:/a" is "/a" or "a", "mmdet://a" the reverse."""
    rest = path[len(PREFIX) :]
    bare = rest.lstrip("/")
    url = re.match(r"(https?):/+(.+)", bare)
    if url:
        return [f"{url.group(1)}://{url.group(2)}"]
    if "://" in bare:  # a path of another handler
        return [bare]
    absolute = f"/{bare}"
    slashes = len(rest) - len(bare)
    return {0: [bare], 1: [absolute, bare], 2: [bare, absolute]}.get(slashes, [absolute])
