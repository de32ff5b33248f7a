"""Reading a torch file without ever executing anything that it holds.

What `torch.load(weights_only=True)` takes is safe. mmdet's training checkpoints hold more
(mmengine's message hub, numpy scalars, config objects), which that refuses; these are read by an
unpickler that knows tensors and plain containers.
"""

from __future__ import annotations

import os
import pickle
import tarfile
from collections.abc import Callable
from typing import Any

import torch

from ..errors import UserError
from .safe_pickle import PLAIN_NAMES, Function, Placeholder, SafeUnpickler, unreadable


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a torch file that holds a dict, in the zip format or the one before torch 1.6.

    Args:
        path: a local file.

    Returns:
        The dict, its tensors on the CPU. Foreign objects, if any, are `Placeholder`s.

    Raises:
        UserError: the file is missing, truncated, or holds something else.
    """
    file = os.fspath(path)
    if not os.path.isfile(file):
        raise UserError(f"there is no checkpoint at {file}: check the path")
    try:
        checkpoint = _load(file)
    except Exception as error:  # damaged files make torch raise errors of many types
        raise unreadable(file, error) from error
    if not isinstance(checkpoint, dict):
        raise UserError(
            f"expected a dict in {file}, found {type(checkpoint).__name__}: give a checkpoint that "
            "was written while training"
        )
    return checkpoint


def _rebuild_tensor(storage: Any, offset: int, size: Any, stride: Any, *rest: Any) -> torch.Tensor:
    """Make a tensor from its storage; `rest` are gradient flags and hooks, which are left out."""
    tensor = torch.empty(0, dtype=storage.dtype)
    return tensor.set_(storage, offset, tuple(size), tuple(stride))


def _rebuild_parameter(tensor: torch.Tensor, *rest: Any) -> torch.Tensor:
    return tensor


# Everything that a file may name. The types are torch's C types: unchangeable.
_TENSOR_NAMES: dict[tuple[str, str], Any] = {
    ("torch", "Size"): torch.Size,
    ("torch._utils", "_rebuild_tensor"): Function(_rebuild_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): Function(_rebuild_tensor),
    ("torch._utils", "_rebuild_parameter"): Function(_rebuild_parameter),
    **{
        ("torch", name): value
        for name, value in vars(torch).items()
        if isinstance(value, torch.dtype)
    },
}


class _TensorUnpickler(SafeUnpickler):
    known = {**PLAIN_NAMES, **_TENSOR_NAMES}

    def __setattr__(self, name: str, value: Any) -> None:
        # torch hands over how storages are read. In the old format the same way also compares
        # source code of modules, and may write patch files: only storages pass.
        super().__setattr__(name, _only_storages(value) if name == "persistent_load" else value)


def _only_storages(persistent_load: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def load_storage(saved_id: Any) -> Any:
        kind = saved_id[0] if isinstance(saved_id, tuple) and saved_id else None
        if kind in ("storage", b"storage"):
            return persistent_load(saved_id)
        return Placeholder()

    return load_storage


class _tensor_pickle:
    """What torch.load takes for the pickle module."""

    Unpickler = _TensorUnpickler

    @staticmethod
    def load(stream: Any, **kwargs: Any) -> Any:
        return _TensorUnpickler(stream, **kwargs).load()


def _load(file: str) -> Any:
    # torch would unpack a tar archive, its format before version 0.2, to disk before reading it.
    if tarfile.is_tarfile(file):
        raise pickle.UnpicklingError("a tar archive")
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        # Only this error: TorchScript archives, which torch.load would execute, raise another.
        return torch.load(
            file, map_location="cpu", weights_only=False, pickle_module=_tensor_pickle
        )
