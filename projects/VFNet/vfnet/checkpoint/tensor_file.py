"""Reading a torch file without ever executing anything that it holds.

A torch file is a pickle, and a pickle is a program: it may name any function of any installed
package and have it called. What `torch.load(weights_only=True)` takes is safe. mmdet's training
checkpoints hold more (mmengine's message hub, numpy scalars, config objects), which that refuses;
these are read by an unpickler that knows tensors and plain containers and puts a `Placeholder`
where anything else stood.
"""

from __future__ import annotations

import os
import pickle
import tarfile
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, Callable

import torch

from ..errors import UserError


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
        raise UserError(
            f"{file} cannot be read as a checkpoint: it is truncated, damaged or of another kind "
            f"({type(error).__name__}: {first_line(error)}). Copy or download it again"
        ) from error
    if not isinstance(checkpoint, dict):
        raise UserError(
            f"expected a dict in {file}, found {type(checkpoint).__name__}: give a checkpoint that "
            "was written while training"
        )
    return checkpoint


def first_line(error: BaseException) -> str:
    """The first line of an error's message; torch appends advice that does not apply here."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "no message"


class Placeholder:
    """Stands for an object of the file that is neither a tensor nor a plain container.

    Takes every call and every change that unpickling can ask for, and does nothing.
    """

    __slots__ = ()

    def __new__(cls, *args: Any, **kwargs: Any) -> Placeholder:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    # Static, because a pickle may also call these on the class itself.
    @staticmethod
    def _nothing(*args: Any, **kwargs: Any) -> None:
        pass

    __setstate__ = append = extend = add = _nothing

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def __call__(self, *args: Any, **kwargs: Any) -> Placeholder:
        return Placeholder()

    def __iter__(self) -> Iterator[Any]:
        return iter(())


class _Function:
    """A function that a file may call and cannot change.

    A pickle can set attributes of what it names; a plain function would keep them.
    """

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setstate__(self, state: Any) -> None:
        pass


def _rebuild_tensor(storage: Any, offset: int, size: Any, stride: Any, *rest: Any) -> torch.Tensor:
    """Make a tensor from its storage; `rest` are gradient flags and hooks, which are left out."""
    tensor = torch.empty(0, dtype=storage.dtype)
    return tensor.set_(storage, offset, tuple(size), tuple(stride))


def _rebuild_parameter(tensor: torch.Tensor, *rest: Any) -> torch.Tensor:
    return tensor


def _encode(text: str, encoding: str) -> bytes:
    """How pickle protocol 2, which torch.save uses, writes bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes are written as latin1, not as {encoding}")
    return text.encode("latin1")


# Everything that a file may name. The types are built in or torch's C types: unchangeable.
_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): torch.Size,
    ("torch._utils", "_rebuild_tensor"): _Function(_rebuild_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): _Function(_rebuild_tensor),
    ("torch._utils", "_rebuild_parameter"): _Function(_rebuild_parameter),
    ("_codecs", "encode"): _Function(_encode),
    **{
        (module, plain.__name__): plain
        for module in ("builtins", "__builtin__")
        for plain in (set, frozenset, list, dict, tuple, complex, bytes, bytearray)
    },
    **{
        ("torch", name): value
        for name, value in vars(torch).items()
        if isinstance(value, torch.dtype)
    },
}


class _TensorUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return _KNOWN.get((module, name), Placeholder)

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
