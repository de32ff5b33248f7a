"""The star-shaped box features of VFNet (paper, section 3.3).

Nine points of a location's box - centre, corners and middles of the sides - are read by a 3x3
deformable convolution. The same sum is taken by `grid_convolution` on a GPU, where Detectron2's
kernel takes longer (docs/performance.md), by `gather_convolution` elsewhere, and in a graph that
`torch.export` takes by torchvision's `deform_conv2d`, the one operation that other runtimes know.
"""

from typing import Any

import torch
from detectron2.layers import ModulatedDeformConv
from torch import Tensor
from torchvision.ops import deform_conv2d

from .gather_conv import SamplingPoints, finite_offsets, gather_convolution, sampling_points
from .grid_conv import SamplingGrid, grid_convolution, sampling_grid


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
    distances = scale_gradient(distances.float(), gradient_scale)
    left, top, right, bottom = (distances / stride).unbind(dim=1)
    centre = torch.zeros_like(left)
    # The displacement wanted minus the tap's own place: -1, 0, 1 along each axis.
    rows = (1 - top, centre, bottom - 1)
    columns = (1 - left, centre, right - 1)
    return torch.stack([side for y in rows for x in columns for side in (y, x)], dim=1)


def point_offsets(points: Tensor, gradient_scale: float = 0.1) -> Tensor:
    """Turn nine points of each location into the offsets of a 3x3 kernel that reads them.

    Args:
        points: (N, 18, H, W), (dy, dx) of each from its location, in cells.
        gradient_scale: as in `star_offsets`.

    Returns:
        as `star_offsets`.
    """
    return scale_gradient(points.float(), gradient_scale) - _own_places(points.device)


def offset_points(offsets: Tensor) -> Tensor:
    """The points that a 3x3 kernel reads at these offsets: the inverse of `point_offsets`."""
    return offsets + _own_places(offsets.device)


def _own_places(device: torch.device) -> Tensor:
    """(dy, dx) of the nine taps from the middle one, in row order -> (18, 1, 1)."""
    tap = torch.arange(9, device=device)
    return torch.stack((tap // 3 - 1, tap % 3 - 1), dim=1).view(18, 1, 1)


def scale_gradient(x: Tensor, share: float) -> Tensor:
    """x itself, of whose gradient only a share passes."""
    return (1 - share) * x.detach() + share * x


def takes_grid(x: Tensor) -> bool:
    """Whether the samples of x are `grid_sample`'s: on a GPU, and no graph is traced.

    Its gradient has no deterministic form.
    """
    traced = torch.jit.is_tracing() or torch.compiler.is_compiling()
    return x.is_cuda and not (traced or torch.are_deterministic_algorithms_enabled())


def star_samples(x: Tensor, offset: Tensor) -> SamplingPoints | SamplingGrid | None:
    """What the star convolutions of a level x, which read at the same points, can share.

    None where they take the offsets themselves.
    """
    if torch.compiler.is_exporting():
        return None
    return sampling_grid(offset) if takes_grid(x) else sampling_points(offset)


class StarDeformConv(ModulatedDeformConv):
    """3x3 deformable convolution at the star's points, without modulation and without bias."""

    def __init__(self, in_channels: int, out_channels: int, **rest: Any):
        super().__init__(in_channels, out_channels, 3, padding=1, bias=False, **rest)

    def forward(
        self, x: Tensor, offset: Tensor, samples: SamplingPoints | SamplingGrid | None = None
    ) -> Tensor:
        """Convolve x (N, C, H, W) at `offset` (N, 18, H, W) -> (N, Cout, H, W).

        `samples`, from `star_samples`, lets the two star convolutions of a level share them; where
        they are None and needed, they are found from `offset`.
        """
        samples = samples or star_samples(x, offset)
        if samples is None:
            out = deform_conv2d(x, finite_offsets(offset), self.weight, padding=1)
        elif isinstance(samples, SamplingGrid):
            out = grid_convolution(x, samples, self.weight)
        else:
            out = gather_convolution(x, samples, self.weight)
        return out if self.activation is None else self.activation(out)
