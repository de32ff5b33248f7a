"""A convolution with its norm."""

from typing import Any

from detectron2.layers import Conv2d, get_norm


def conv_with_norm(
    in_channels: int, out_channels: int, norm: str, *, kernel_size: int = 3, **options: Any
) -> Conv2d:
    """Detectron2's `Conv2d`, padded by half its kernel, with a bias only where it has no norm.

    `norm` is a name of `get_norm`; `options` of `Conv2d` win over these.
    """
    layer = get_norm(norm, out_channels)
    options = {"padding": kernel_size // 2, "bias": layer is None, "norm": layer, **options}
    return Conv2d(in_channels, out_channels, kernel_size=kernel_size, **options)
