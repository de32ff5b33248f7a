"""Boxes as what a network predicts of them at a location."""

import torch
from torch import Tensor


def distances_to_boxes(points: Tensor, distances: Tensor) -> Tensor:
    """Boxes x1, y1, x2, y2 from points (..., 2) and distances l, t, r, b (..., 4), in pixels."""
    return torch.cat((points - distances[..., :2], points + distances[..., 2:]), dim=-1)
