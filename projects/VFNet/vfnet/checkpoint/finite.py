"""Are the numbers of a checkpoint finite?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch


def non_finite(content: Any, name: str = "") -> Iterator[str]:
    """Yield the name of each tensor or array in nested containers that is not finite throughout.

    It holds a NaN or infinity, or no real numbers: complex ones, or those of a type that torch
    cannot compute with.

    Args:
        content: tensors and arrays, in dicts and lists at any depth; all else is passed over.
        name: what stands before the names, which are keys joined by dots.
    """
    if isinstance(content, Mapping):
        for key, value in content.items():
            yield from non_finite(value, f"{name}.{key}" if name else str(key))
    elif isinstance(content, (list, tuple)):
        for index, value in enumerate(content):
            yield from non_finite(value, f"{name}.{index}" if name else str(index))
    elif hasattr(content, "shape") and not _is_finite(content):
        yield name


def _is_finite(values: Any) -> bool:
    try:
        tensor = torch.as_tensor(values)
        if tensor.is_complex():  # loading would drop the imaginary part
            return False
        if tensor.dtype.itemsize == 1:
            tensor = tensor.float()  # torch has no sum of eight bits
        # A sum costs a tenth of the look at each number; it may be infinite where none of them is.
        return math.isfinite(tensor.sum()) or bool(torch.isfinite(tensor).all())
    except (NotImplementedError, TypeError):  # packs of four bits; NumPy's objects
        return False
