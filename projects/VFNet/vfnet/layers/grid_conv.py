"""3x3 deformable convolution by `grid_sample`: the star's way on a GPU.

The nine taps of all locations are one `grid_sample` of the map, and a 1x1 convolution over the
channels of the nine follows. Compared with the other ways in benchmarks/star_deform_conv.py.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from .gather_conv import LOCATIONS_AT_ONCE_ELSEWHERE, finite_offsets


class SamplingGrid(NamedTuple):
    """Where the nine taps read, as `grid_sample` takes it.

    places: (N, 9 H, W, 2) float32, tap by tap: x and y from -1, the outer edge of the map's first
    cell, to 1, that of its last.
    """

    places: Tensor


def sampling_grid(offset: Tensor) -> SamplingGrid:
    """The samples of a 3x3 deformable convolution of stride 1 and padding 1.

    Args:
        offset: (N, 18, H, W), (dy, dx) of each tap in row order, in cells.
    """
    n, _, height, width = offset.shape
    dy, dx = finite_offsets(offset).view(n, 9, 2, height, width).unbind(dim=2)  # (N, 9, H, W) each
    tap = torch.arange(9, device=offset.device).view(9, 1, 1)
    row = torch.arange(height, device=offset.device)[:, None] + (tap // 3 - 0.5)
    column = torch.arange(width, device=offset.device) + (tap % 3 - 0.5)
    places = torch.stack(((dx + column) * (2 / width) - 1, (dy + row) * (2 / height) - 1), dim=-1)
    return SamplingGrid(places.view(n, 9 * height, width, 2))


def grid_convolution(x: Tensor, grid: SamplingGrid, weight: Tensor) -> Tensor:
    """Sample x (N, C, H, W) and multiply by the kernel (Cout, C, 3, 3).

    Rounded as other convolutions are: under autocast in its precision, with TF32 where
    `torch.backends.cudnn.allow_tf32`. The samples themselves are float32.

    Returns:
        (N, Cout, H, W), in autocast's precision.
    """
    kernel = weight.flatten(1)[:, :, None, None]  # (Cout, 9 C, 1, 1)
    if torch.is_autocast_enabled(x.device.type):
        kernel = kernel.to(torch.get_autocast_dtype(x.device.type))
    return _GridConvolution.apply(x.float(), grid.places, kernel)


def _sample(x: Tensor, places: Tensor) -> Tensor:
    """Read x (N, C, H, W) at the nine taps -> (N, 9 C, H, W), the taps of a channel together."""
    n, channels, height, width = x.shape
    samples = F.grid_sample(x, places, align_corners=False)
    return samples.view(n, 9 * channels, height, width)


class _GridConvolution(Function):
    """`conv2d(_sample(x, places), kernel)`, some images at a time.

    The samples, nine times as large as the map, are not kept: the backward pass takes them anew.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, places: Tensor, kernel: Tensor) -> Tensor:
        ctx.save_for_backward(x, places, kernel)
        parts = [F.conv2d(_sample(*part).to(kernel.dtype), kernel) for part in _parts(x, places)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, places, kernel = ctx.saved_tensors
        from_x, from_places = [], []
        grad_kernel = torch.zeros_like(kernel, dtype=torch.float32)
        for x_part, places_part, grad_part in _parts(x, places, grad):
            inputs = [tensor.detach().requires_grad_() for tensor in (x_part, places_part, kernel)]
            with torch.enable_grad():
                out = F.conv2d(_sample(*inputs[:2]).to(kernel.dtype), inputs[2])
            for_x, for_places, for_kernel = torch.autograd.grad(out, inputs, grad_part)
            from_x.append(for_x)
            from_places.append(for_places)
            grad_kernel += for_kernel
        return torch.cat(from_x), torch.cat(from_places), grad_kernel.to(kernel.dtype)


def _parts(x: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Split tensors of N images each, into parts of `LOCATIONS_AT_ONCE_ELSEWHERE` or one image."""
    images = max(1, LOCATIONS_AT_ONCE_ELSEWHERE // (x.shape[-2] * x.shape[-1]))
    return zip(*(tensor.split(images) for tensor in (x, *others)))
