"""Reading Detectron2's `.pkl` files, numpy arrays by name, without ever executing them."""

from __future__ import annotations

import io
import os
from typing import Any

import numpy as np

from ..errors import UserError
from .safe_pickle import PLAIN_NAMES, Function, SafeUnpickler, unreadable


def read_arrays(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a pickle that holds a dict, of Python 2 or 3, with numpy arrays and plain containers.

    Args:
        path: a local file.

    Returns:
        The dict. Foreign objects, if any, are `Placeholder`s.

    Raises:
        UserError: the file is truncated, or holds something else.
    """
    file = os.fspath(path)
    if not os.path.isfile(file):  # a pipe may never end
        raise UserError(f"there is no checkpoint at {file}: check the path")
    try:
        with open(file, "rb") as stream:
            # Python 2's texts are bytes; as latin1 none of them is lost.
            content = _ArrayUnpickler(io.BytesIO(stream.read()), encoding="latin1").load()
    except Exception as error:  # damaged files make pickle raise errors of many types
        raise unreadable(file, error) from error
    if not isinstance(content, dict):
        raise UserError(f"expected a dict in {file}, found {type(content).__name__}")
    return content


class _DType:
    """Stands for a dtype of numbers while a file is read.

    numpy's own takes flags from the file, by which an array's bytes may pass for addresses of
    objects.
    """

    __slots__ = ("_code", "_order")

    def __init__(self, code: str, align: bool = False, copy: bool = True) -> None:
        self._code, self._order = code, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._order = state[1]

    def make(self) -> np.dtype:
        dtype = np.dtype(self._code)
        if dtype.kind not in "biufc":
            raise TypeError(f"an array of {dtype} instead of numbers")
        return dtype.newbyteorder(self._order)


class _Array(np.ndarray):
    """An array whose state, in the file, has a `_DType` in the dtype's place."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        version, shape, dtype, is_fortran, data = state
        super().__setstate__((version, shape, dtype.make(), is_fortran, data))


def _reconstruct(*args: Any) -> np.ndarray:
    """Make an empty array, whose state follows; which class the file asks for plays no part."""
    return np.empty(0).view(_Array)


def _from_buffer(buffer: Any, dtype: _DType, shape: tuple[int, ...], order: str) -> np.ndarray:
    """How protocol 5 writes an array."""
    return np.frombuffer(buffer, dtype.make()).reshape(shape, order=order).copy()


def _scalar(dtype: _DType, data: bytes | str) -> Any:
    raw = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(raw, dtype.make())[0]


class _ArrayUnpickler(SafeUnpickler):
    known = {
        **PLAIN_NAMES,
        ("numpy", "dtype"): Function(_DType),
        **{
            (f"numpy.{core}.{module}", name): Function(function)
            for core in ("core", "_core")  # before and since numpy 2
            for module, name, function in (
                ("multiarray", "_reconstruct", _reconstruct),
                ("multiarray", "scalar", _scalar),
                ("numeric", "_frombuffer", _from_buffer),
            )
        },
    }
