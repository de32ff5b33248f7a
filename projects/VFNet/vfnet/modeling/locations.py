"""The levels of a pyramid: their sizes, and their locations in one row."""

from collections.abc import Sequence

import torch
from torch import Tensor


def level_sizes(levels: list[Tensor]) -> list[tuple[int, int]]:
    """(H, W) of levels (N, C, H, W)."""
    return [(level.shape[-2], level.shape[-1]) for level in levels]


def padded_size(size: Sequence[int], divisibility: int) -> tuple[int, int]:
    """(H, W) of an image as a batch pads it: each side to the next multiple, in pixels."""
    unit = max(divisibility, 1)
    height, width = ((side + unit - 1) // unit * unit for side in size)
    return height, width


def level_numbers(counts: Sequence[int], device: torch.device) -> Tensor:
    """The level of each location, of `counts` a level -> (R,) int64, ascending from 0."""
    return torch.cat([torch.full((count,), i, device=device) for i, count in enumerate(counts)])


def flatten_levels(levels: list[Tensor]) -> Tensor:
    """(N, C, H, W) of each level -> (N R, C), image by image, level by level, row by row."""
    return torch.cat([x.permute(0, 2, 3, 1).flatten(1, 2) for x in levels], dim=1).flatten(0, 1)


def grid_points(
    feature_sizes: Sequence[tuple[int, int]], strides: Sequence[int], device: torch.device
) -> Tensor:
    """Where the locations of all levels stand -> (R, 2) float32, x and y in pixels."""
    points: list[Tensor] = []
    for (height, width), stride in zip(feature_sizes, strides):
        y = torch.arange(height, dtype=torch.float32, device=device) * stride
        x = torch.arange(width, dtype=torch.float32, device=device) * stride
        grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
        points.append(torch.stack((grid_x, grid_y), dim=-1).view(-1, 2))
    return torch.cat(points)


def at_locations(
    feature_sizes: Sequence[tuple[int, int]], values: Sequence[float], device: torch.device
) -> Tensor:
    """A number of each level, such as its stride, at each of its locations -> (R, 1) float32."""
    return torch.cat(
        [
            torch.full((height * width, 1), float(value), device=device)
            for (height, width), value in zip(feature_sizes, values)
        ]
    )
