"""Reading a torch file without ever executing anything that it holds.

An unpickler of our own, which knows tensors and plain containers, takes the place of torch's.
`torch.load(weights_only=True)` is safe too, but bounds neither time nor memory, and cannot read
mmdet's training checkpoints, whatever `torch.serialization.safe_globals` allows: it refuses config
objects (a dict's subclass), deques, functions of `os`, and pickles of protocol 4.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from typing import Any

import torch

from ..errors import UserError
from .safe_pickle import PLAIN_NAMES, Function, Placeholder, SafeUnpickler, unreadable
from .safetensors_file import SUFFIX, read_safetensors


def read_checkpoint(
    path: str | os.PathLike[str], *, refuse_foreign: bool = False, mmap: bool = False
) -> dict[str, Any]:
    """Read a torch file that holds a dict, of the zip format or the one before, or a safetensors.

    Args:
        path: a local file.
        refuse_foreign: whether an object that is neither a tensor nor plain is an error.
        mmap: leave the tensors of a zip file on the disk until they are used.

    Returns:
        The dict, its tensors on the CPU. Foreign objects, if any, are `Placeholder`s.

    Raises:
        UserError: the file is missing, truncated, changed by as little as a bit (of a zip file), or
            holds something else.
    """
    file = os.fspath(path)
    if not os.path.isfile(file):
        raise UserError(f"there is no checkpoint at {file}: check the path")
    try:
        checkpoint = _load(file, refuse_foreign, mmap)
    except Exception as error:  # damaged files make torch raise errors of many types
        advice = f"; a checkpoint of mmdet is given as mmdet://{file}" if refuse_foreign else ""
        raise unreadable(file, error, advice) from error
    if not isinstance(checkpoint, dict):
        raise UserError(
            f"expected tensors by name in {file}, found {type(checkpoint).__name__}: give a "
            "checkpoint that was written while training"
        )
    return checkpoint


def _rebuild_tensor(storage: Any, offset: int, size: Any, stride: Any, *rest: Any) -> torch.Tensor:
    """Make a tensor from its storage; `rest` are gradient flags and hooks, which are left out."""
    tensor = torch.empty(0, dtype=storage.dtype)
    tensor.set_(storage, offset, tuple(size), tuple(stride))
    there = tensor.untyped_storage().nbytes()
    if tensor.nbytes > there:  # a few bytes shown at any size
        raise pickle.UnpicklingError(f"a tensor of {tuple(size)} in {there} bytes")
    return tensor


def _rebuild_parameter(tensor: torch.Tensor, *rest: Any) -> torch.Tensor:
    return tensor


# Everything that a file may name. The types are torch's C types: unchangeable.
_TENSOR_NAMES: dict[tuple[str, str], Any] = {
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
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


class _StrictUnpickler(_TensorUnpickler):
    refuse_foreign = True


class _PickleModule:
    """What torch.load takes for the pickle module."""

    def __init__(self, unpickler: type[_TensorUnpickler]) -> None:
        self.Unpickler = unpickler
        self.__name__ = "pickle"

    def load(self, stream: Any, **options: Any) -> Any:
        return self.Unpickler(stream, **options).load()


def _load(file: str, refuse_foreign: bool, mmap: bool) -> Any:
    if file.endswith(SUFFIX):
        return read_safetensors(file)
    # torch would unpack a tar archive, its format before version 0.2, to disk before reading it.
    if tarfile.is_tarfile(file):
        raise pickle.UnpicklingError("a tar archive")
    with open(file, "rb") as stream:
        is_zip = stream.read(4) == b"PK\x03\x04"  # as torch decides
    if is_zip:
        _check_archive(file)
    module = _PickleModule(_StrictUnpickler if refuse_foreign else _TensorUnpickler)
    return torch.load(
        file, map_location="cpu", weights_only=False, pickle_module=module, mmap=mmap and is_zip
    )


def _check_archive(file: str) -> None:
    """Refuse what torch.save does not write: TorchScript, which torch would execute, and bombs.

    And what it did write, where a bit has changed since: a zip file has the CRC-32 of every record,
    which torch does not look at.
    """
    with zipfile.ZipFile(file) as archive:
        records = archive.infolist()
        packed = [info.filename for info in records if info.compress_type]
        if packed:
            raise pickle.UnpicklingError(f"{packed[0]} is compressed, which torch.save does not")
        # All are 0 where `torch.utils.serialization.config.save.compute_crc32` was off.
        damaged = archive.testzip() if any(info.CRC for info in records) else None
    if damaged:
        raise pickle.UnpicklingError(f"the checksum of {damaged} differs from its content")
    # By torch's own eyes. That it cannot list the names of every protocol is no matter here.
    with contextlib.suppress(pickle.UnpicklingError):
        torch.serialization.get_unsafe_globals_in_checkpoint(file)
