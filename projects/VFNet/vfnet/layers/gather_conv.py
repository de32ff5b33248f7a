"""3x3 deformable convolution by gathering, on any device and in any precision.

A tap is a bilinear sample of the map: a weighted sum of four rows of the map, seen as a table of
N * H * W rows of C channels. One matrix product of nine such samples with the kernel follows.
torchvision's `deform_conv2d` is the same sum; on a CPU it takes longer (docs/performance.md).
deform_conv.py and star_conv.py say when which is taken.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

# Locations whose samples, nine times their channels, are held at a time. On a CPU they stay in the
# cache and need no fresh memory, which takes longer than the samples themselves
# (benchmarks/star_deform_conv.py); elsewhere they are bounded.
LOCATIONS_AT_ONCE = 1024
LOCATIONS_AT_ONCE_ELSEWHERE = 65536
# Cells; more than any map has, and few enough for a 32-bit index.
FARTHEST = 2.0**20
# Each part's gradient of the map is as large as the map: backward takes fewer, larger parts.
BACKWARD_FACTOR = 2


def finite_offsets(offset: Tensor) -> Tensor:
    """Replace NaN, infinite and huge offsets by one that still points outside any map, float32.

    A sample outside reads 0 and passes no gradient, so the result does not change, but no index
    overflows and no gradient becomes NaN.
    """
    return offset.float().nan_to_num(nan=FARTHEST).clamp(-FARTHEST, FARTHEST)


class SamplingPoints(NamedTuple):
    """What the nine taps of L = N * Hout * Wout locations read, each a bilinear sample.

    rows: (L, 9, 4) int64, the four neighbours of a sample in the map seen as (N * H * W, C).
    weights: (L, 9, 4) float32, their bilinear weights; 0 outside the map.
    size: (Hout, Wout).
    """

    rows: Tensor
    weights: Tensor
    size: tuple[int, int]


def sampling_points(
    offset: Tensor,
    mask: Tensor | None = None,
    stride: int = 1,
    map_size: tuple[int, int] | None = None,
) -> SamplingPoints:
    """The samples of a 3x3 deformable convolution with padding 1.

    Args:
        offset: (N, 18, Hout, Wout), (dy, dx) of each tap in row order, in cells.
        mask: (N, 9, Hout, Wout), the modulation of each tap; None: all are 1.
        stride: of the convolution, in cells.
        map_size: (H, W) of the map; None: (Hout, Wout), as with stride 1.
    """
    n, _, out_height, out_width = offset.shape
    height, width = map_size or (out_height, out_width)
    device = offset.device
    offset = finite_offsets(offset)
    dy, dx = offset.view(n, 9, 2, out_height, out_width).permute(2, 0, 3, 4, 1)  # (N, H, W, 9) each
    tap = torch.arange(9, device=device)
    y = dy + (torch.arange(out_height, device=device)[:, None, None] * stride + tap // 3 - 1)
    x = dx + (torch.arange(out_width, device=device)[:, None] * stride + tap % 3 - 1)

    top, bottom, weight_top, weight_bottom = _neighbours(y, height)
    left, right, weight_left, weight_right = _neighbours(x, width)
    image = torch.arange(n, device=device).view(n, 1, 1, 1) * height
    top, bottom = (image + top) * width, (image + bottom) * width
    if mask is not None:
        modulation = mask.float().permute(0, 2, 3, 1)  # (N, H, W, 9)
        weight_top, weight_bottom = weight_top * modulation, weight_bottom * modulation
    # Upper left, upper right, lower left, lower right.
    rows = [row + column for row in (top, bottom) for column in (left, right)]
    weights = [y * x for y in (weight_top, weight_bottom) for x in (weight_left, weight_right)]
    return SamplingPoints(
        torch.stack(rows, dim=-1).view(-1, 9, 4),
        torch.stack(weights, dim=-1).view(-1, 9, 4),
        (out_height, out_width),
    )


def _neighbours(position: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The two cells around a position along one axis, and their weights (0 outside the map)."""
    low = position.detach().floor()
    fraction = position - low
    index = low.long()
    weight_low = (1 - fraction) * ((index >= 0) & (index < size))
    weight_high = fraction * ((index >= -1) & (index < size - 1))
    return index.clamp(0, size - 1), (index + 1).clamp(0, size - 1), weight_low, weight_high


def gather_convolution(x: Tensor, points: SamplingPoints, weight: Tensor) -> Tensor:
    """Sample x (N, C, H, W) and multiply by the kernel (Cout, C, 3, 3) -> (N, Cout, Hout, Wout).

    Under autocast the product is in its precision, and so is what is returned.
    """
    n, channels, height, width = x.shape
    exporting = torch.jit.is_tracing() or torch.compiler.is_compiling()
    if n > 1 and x.device.type == "cpu" and not exporting:
        # One by one: each part of the backward pass gives a gradient of the whole table.
        parts = zip(x.split(1), points.rows.chunk(n), points.weights.chunk(n))
        outputs = []
        for i, (image, rows, weights) in enumerate(parts):
            own_points = SamplingPoints(rows - i * height * width, weights, points.size)
            outputs.append(gather_convolution(image, own_points, weight))
        return torch.cat(outputs)
    # float32 even under autocast: bilinear weights in half precision would move every sample.
    table = x.float().permute(0, 2, 3, 1).reshape(-1, channels)
    kernel = weight.permute(2, 3, 1, 0).reshape(9 * channels, -1)
    if torch.is_autocast_enabled(x.device.type):
        kernel = kernel.to(torch.get_autocast_dtype(x.device.type))
    if exporting:
        # The number of parts would be that of one size for ever.
        out = _sample(table, points.rows, points.weights).to(kernel.dtype) @ kernel
    else:
        out = _GatherInParts.apply(table, points.rows, points.weights, kernel)
    return out.view(n, *points.size, kernel.shape[1]).permute(0, 3, 1, 2)


def _sample(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """Read the table (R, C) at nine samples for each of L locations -> (L, 9 C)."""
    samples = F.embedding_bag(
        rows.view(-1, 4), table, per_sample_weights=weights.view(-1, 4), mode="sum"
    )
    return samples.view(-1, 9 * table.shape[1])


class _GatherInParts(Function):
    """`_sample(table, rows, weights) @ kernel`, some locations at a time.

    The samples, nine times as large as the map, are never held as a whole: the backward pass takes
    them anew.
    """

    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor, weights: Tensor, kernel: Tensor) -> Tensor:
        ctx.save_for_backward(table, rows, weights, kernel)
        out = kernel.new_empty(len(rows), kernel.shape[1])
        for rows_part, weights_part, out_part in _parts(rows, weights, out):
            samples = _sample(table, rows_part, weights_part)
            torch.mm(samples.to(kernel.dtype), kernel, out=out_part)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor, Tensor]:
        table, rows, weights, kernel = ctx.saved_tensors
        grad_table, grad_weights = torch.zeros_like(table), torch.empty_like(weights)
        grad_kernel = torch.zeros_like(kernel, dtype=torch.float32)
        parts = list(_parts(rows, weights, grad, grad_weights, factor=BACKWARD_FACTOR))
        room = kernel.new_empty(len(parts[0][0]), len(kernel))  # the first part is the largest
        for rows_part, weights_part, grad_part, grad_weights_part in parts:
            inputs = table.detach().requires_grad_(), weights_part.detach().requires_grad_()
            with torch.enable_grad():
                samples = _sample(inputs[0], rows_part, inputs[1])
            grad_kernel += samples.detach().to(kernel.dtype).T @ grad_part
            grad_samples = torch.mm(grad_part, kernel.T, out=room[: len(grad_part)])
            from_table, from_weights = torch.autograd.grad(
                samples, inputs, grad_samples.to(samples.dtype)
            )
            grad_table += from_table
            grad_weights_part.copy_(from_weights)
        return grad_table, None, grad_weights, grad_kernel.to(kernel.dtype)


def _parts(*by_location: Tensor, factor: int = 1) -> Iterator[tuple[Tensor, ...]]:
    """Split tensors of L locations each into parts of `factor` * `LOCATIONS_AT_ONCE`."""
    on_cpu = by_location[0].device.type == "cpu"
    size = factor * (LOCATIONS_AT_ONCE if on_cpu else LOCATIONS_AT_ONCE_ELSEWHERE)
    return zip(*(tensor.split(size) for tensor in by_location))
