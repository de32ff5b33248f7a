"""Are the numbers of a checkpoint finite?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch


def non_finite(content: Any, name: str = "") -> Iterator[str]:
    """Yield the name of each tensor or array in nested containers that holds a NaN or infinity.

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
    elif hasattr(content, "shape") and not _is_finite(torch.as_tensor(content)):
        yield name


def _is_finite(tensor: torch.Tensor) -> bool:
    # A sum costs a tenth of the look at each number; it may be infinite where none of them is.
    return math.isfinite(tensor.sum()) or bool(torch.isfinite(tensor).all())
