"""The levels of a pyramid: their sizes, their locations in one row, and boxes around these."""

import torch
from torch import Tensor


def level_sizes(levels: list[Tensor]) -> list[tuple[int, int]]:
    """(H, W) of levels (N, C, H, W)."""
    return [(level.shape[-2], level.shape[-1]) for level in levels]


def level_numbers(sizes: list[tuple[int, int]], device: torch.device) -> Tensor:
    """The level of each location of all levels of these (H, W) -> (R,) int64, ascending from 0."""
    numbers = [torch.full((h * w,), i, device=device) for i, (h, w) in enumerate(sizes)]
    return torch.cat(numbers)


def flatten_levels(levels: list[Tensor]) -> Tensor:
    """(N, C, H, W) of each level -> (N R, C), image by image, level by level, row by row."""
    return torch.cat([x.permute(0, 2, 3, 1).flatten(1, 2) for x in levels], dim=1).flatten(0, 1)


def decode(points: Tensor, distances: Tensor) -> Tensor:
    """Boxes x1, y1, x2, y2 from points (P, 2) and distances l, t, r, b (P, 4), in pixels."""
    return torch.cat((points - distances[:, :2], points + distances[:, 2:]), dim=1)
