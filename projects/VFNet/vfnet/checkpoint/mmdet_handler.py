"""`MODEL.WEIGHTS: mmdet://PATH_OR_URL`: mmdet checkpoints through Detectron2's PathManager."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from typing import IO, Any

import torch
from detectron2.utils.file_io import PathHandler, PathManager
from iopath.common.file_io import get_cache_dir

from ..errors import UserError
from .mmdet_names import convert_state_dict
from .tensor_file import read_checkpoint
from .write_aside import write_aside

# Raise it when the same source would give another file: old ones in the cache are then left alone.
CONVERTER_VERSION = 1

PREFIX = "mmdet:"


class MMDetHandler(PathHandler):
    """Gives the local path of a converted mmdet VFNet checkpoint.

    The prefix has no slashes, because Detectron2 hands `mmdet:///abs.pth` on as `mmdet:/abs.pth`.
    What follows "mmdet:", "mmdet:/" or "mmdet://" is a path or an http(s) URL. Detectron2 removes
    a URL's query ("?...") before it asks for a file.
    """

    def _get_supported_prefixes(self) -> list[str]:
        return [PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        source = _fetch(path, force)
        folder = os.path.join(get_cache_dir(), "vfnet_mmdet")
        target = os.path.join(folder, f"{_sha256(source)[:16]}_v{CONVERTER_VERSION}.pth")
        if not os.path.isfile(target):
            converted = convert_file(source)
            os.makedirs(folder, exist_ok=True)
            with write_aside(target) as stream:
                torch.save(converted, stream)
        return target

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> IO[Any]:
        if mode not in ("r", "rb"):
            raise UserError(f"{path} can only be read, not opened with mode {mode!r}")
        return open(self._get_local_path(path), mode, buffering)


def register_mmdet_handler() -> None:
    """Make Detectron2's PathManager understand `mmdet:`; calling it again changes nothing."""
    PathManager.register_handler(MMDetHandler(), allow_override=True)


def convert_file(source: str) -> dict[str, Any]:
    """Read an mmdet VFNet checkpoint and return what Detectron2's checkpointer loads.

    Args:
        source: a local file, as mmdet 2.x or 3.x writes it, or a bare state dict.

    Returns:
        `model` (our names -> tensors), `__author__`, `mmdet_source`, and `class_names` where the
        file says them.

    Raises:
        UserError: the file cannot be read, or holds names that no VFNet has.
    """
    checkpoint = read_checkpoint(source)
    state_dict = checkpoint.get("state_dict", checkpoint)
    if not isinstance(state_dict, dict) or not state_dict:
        raise UserError(f"expected a state dict in {source}, found none: give an mmdet checkpoint")
    try:
        model = convert_state_dict(state_dict)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
    converted: dict[str, Any] = {"model": model, "__author__": "mmdet", "mmdet_source": source}
    class_names = _class_names(checkpoint.get("meta"))
    if class_names:
        converted["class_names"] = class_names
    return converted


def _class_names(meta: Any) -> list[str] | None:
    """Class names of a checkpoint's `meta`: in it (mmdet 2), or in its `dataset_meta` (mmdet 3)."""
    if not isinstance(meta, Mapping):
        return None
    dataset_meta = meta.get("dataset_meta")
    for holder in (dataset_meta, meta):
        if isinstance(holder, Mapping):
            for key in ("classes", "CLASSES"):
                names = holder.get(key)
                if isinstance(names, (list, tuple)) and all(isinstance(n, str) for n in names):
                    return list(names)
    return None


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


def _fetch(path: str, force: bool) -> str:
    candidates = _candidates(path)
    for candidate in candidates:
        try:
            local = PathManager.get_local_path(candidate, force=force)
        except OSError as error:
            raise UserError(
                f"{path}: {candidate} cannot be fetched ({error}). Check the address, or download "
                "it and give the file"
            ) from error
        if os.path.isfile(local):
            return local
    raise UserError(
        f"{path}: there is no file at {' or '.join(candidates)}. After {PREFIX}// comes the path "
        "or URL of an mmdet checkpoint"
    )


def _sha256(file: str) -> str:
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
