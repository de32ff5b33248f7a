"""How tests compare tensors with reference numbers."""

from torch import Tensor


def relative_difference(actual: Tensor, expected: Tensor) -> float:
    """max|a - b| / max|b|; a shape that differs is an error."""
    assert actual.shape == expected.shape, f"{tuple(actual.shape)} != {tuple(expected.shape)}"
    scale = expected.abs().max().clamp(min=1e-12)
    return ((actual - expected).abs().max() / scale).item()
