"""The star-shaped box features of VFNet (paper, section 3.3).

Nine points of a location's box - centre, corners and middles of the sides - are read by a 3x3
deformable convolution. Detectron2's kernel does that on CUDA in float32. Elsewhere (CPU, autocast,
export, other devices) the same sum is taken by gathering: a tap is a bilinear sample of the map,
that is a weighted sum of four rows of the map seen as a table of N * H * W rows of C channels, and
one matrix product with the kernel follows.
"""

from typing import Callable, NamedTuple, Optional

import torch
from detectron2 import _C
from detectron2.layers import ModulatedDeformConv
from torch import Tensor
from torch.nn import functional as F

from .deform_conv import finite_offsets


def star_offsets(distances: Tensor, stride: int, gradient_scale: float = 0.1) -> Tensor:
    """Turn boxes into the offsets of the star's nine sampling points.

    Args:
        distances: (N, 4, H, W), left, top, right, bottom from each location, in pixels.
        stride: pixels a cell.
        gradient_scale: share of the gradient that reaches `distances`; a full one would let the
            classification pull the box about.

    Returns:
        (N, 18, H, W) float32: (dy, dx) in cells for the nine taps of a 3x3 kernel in row order, the
        displacement wanted minus the tap's own place.
    """
    distances = distances.float()
    distances = (1 - gradient_scale) * distances.detach() + gradient_scale * distances
    left, top, right, bottom = (distances / stride).unbind(dim=1)
    centre = torch.zeros_like(left)
    # The displacement wanted minus the tap's own place: -1, 0, 1 along each axis.
    rows = (1 - top, centre, bottom - 1)
    columns = (1 - left, centre, right - 1)
    return torch.stack([side for y in rows for x in columns for side in (y, x)], dim=1)


class SamplingPoints(NamedTuple):
    """What nine taps read, as P = N * H * W * 9 bilinear samples.

    rows: (P, 4) int64, the four neighbours of a sample in the map seen as (N * H * W, C).
    weights: (P, 4) float32, their bilinear weights; 0 outside the map.
    """

    rows: Tensor
    weights: Tensor


def sampling_points(offset: Tensor) -> SamplingPoints:
    """The samples of a 3x3 deformable convolution of stride 1 with `offset` (N, 18, H, W)."""
    n, _, height, width = offset.shape
    device = offset.device
    offset = finite_offsets(offset, height, width)
    dy, dx = offset.view(n, 9, 2, height, width).permute(2, 0, 3, 4, 1)  # (N, H, W, 9) each
    tap = torch.arange(9, device=device)
    y = dy + (torch.arange(height, device=device)[:, None, None] + tap // 3 - 1)
    x = dx + (torch.arange(width, device=device)[:, None] + tap % 3 - 1)

    top, bottom, weight_top, weight_bottom = _neighbours(y, height)
    left, right, weight_left, weight_right = _neighbours(x, width)
    image = torch.arange(n, device=device).view(n, 1, 1, 1) * height
    top, bottom = (image + top) * width, (image + bottom) * width
    rows = (top + left, top + right, bottom + left, bottom + right)
    weights = (
        weight_top * weight_left,
        weight_top * weight_right,
        weight_bottom * weight_left,
        weight_bottom * weight_right,
    )
    return SamplingPoints(
        torch.stack(rows, dim=-1).view(-1, 4), torch.stack(weights, dim=-1).view(-1, 4)
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
    """Sample x (N, C, H, W) and multiply by the kernel (Cout, C, 3, 3) -> (N, Cout, H, W)."""
    n, channels, height, width = x.shape
    # float32 even under autocast: bilinear weights in half precision would move every sample.
    table = x.float().permute(0, 2, 3, 1).reshape(-1, channels)
    samples = F.embedding_bag(points.rows, table, per_sample_weights=points.weights, mode="sum")
    kernel = weight.permute(2, 3, 1, 0).reshape(9 * channels, -1)
    out = samples.view(-1, 9 * channels) @ kernel
    return out.view(n, height, width, -1).permute(0, 3, 1, 2)


def kernel_runs(x: Tensor) -> bool:
    """Whether Detectron2's compiled kernel can take x: CUDA, float32, no autocast, no export.

    Detectron2 built where there was no CUDA compiler has no such kernel.
    """
    if not (x.is_cuda and x.dtype == torch.float32 and _C.has_cuda()):
        return False
    exporting = torch.jit.is_tracing() or torch.compiler.is_compiling()
    return not (torch.is_autocast_enabled() or exporting)


class StarDeformConv(ModulatedDeformConv):
    """3x3 deformable convolution at the star's points, without modulation and without bias."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        activation: Optional[Callable[[Tensor], Tensor]] = None,
    ):
        super().__init__(in_channels, out_channels, 3, padding=1, bias=False, activation=activation)

    def forward(self, x: Tensor, offset: Tensor, points: Optional[SamplingPoints] = None) -> Tensor:
        """Convolve x (N, C, H, W) at `offset` (N, 18, H, W) -> (N, Cout, H, W).

        `points`, from `sampling_points(offset)`, lets the two star convolutions of a level share
        their samples; where it is None and needed, it is found from `offset`.
        """
        if x.numel() == 0 or kernel_runs(x):
            offset = finite_offsets(offset, *x.shape[-2:])
            modulation = offset.new_ones(x.shape[0], 9, *x.shape[-2:])
            return super().forward(x.contiguous(), offset.contiguous(), modulation)
        out = gather_convolution(x, points or sampling_points(offset), self.weight)
        return out if self.activation is None else self.activation(out)
