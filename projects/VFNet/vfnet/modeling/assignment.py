"""ATSS: which location learns which ground truth (https://arxiv.org/abs/1912.02424, algorithm 1).

Naming convention: M = ground-truth boxes, k = candidates of a level, C = candidates of all levels.
"""

from collections.abc import Sequence
from typing import Optional

import torch
from torch import Tensor


@torch.no_grad()
def atss_match(
    gt_boxes: Tensor,
    feature_sizes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    topk: int = 9,
    anchor_scale: float = 8.0,
    valid_sizes: Optional[Sequence[tuple[int, int]]] = None,
) -> tuple[Tensor, Tensor]:
    """Find the positive locations of one image and the box that each of them learns.

    A location (row i, column j) of a level with stride s stands at (j s, i s) and owns one square
    anchor of side `anchor_scale` s around it. The topk locations nearest a box's centre, on each
    level, are its candidates; those whose anchor's IoU reaches the candidates' mean plus standard
    deviation, and which lie inside the box, are positive. A location that several boxes claim
    goes to the one it overlaps most. Of equal distances the lower location wins, of equal overlaps
    the lower box.

    Only the candidates' IoUs are computed: the cost grows with M, not with M times the locations.

    Args:
        gt_boxes: (M, 4), x1, y1, x2, y2 in pixels.
        feature_sizes: (H, W) of each level.
        strides: pixels a cell, of each level.
        topk: candidates a box takes from each level.
        anchor_scale: side of the anchor in strides.
        valid_sizes: (H, W), the part of each level that belongs to this image; None: all of it.

    Returns:
        locations, gt_index: both (P,) int64; locations ascending, numbered level by level, row by
        row over `feature_sizes`.
    """
    if len(gt_boxes) == 0:
        empty = torch.zeros(0, dtype=torch.int64, device=gt_boxes.device)
        return empty, empty.clone()

    gt_boxes = gt_boxes.float()
    centres = (gt_boxes[:, :2] + gt_boxes[:, 2:]) / 2  # (M, 2)
    locations, ious, inside = [], [], []
    first_location = 0
    for (height, width), (valid_height, valid_width), stride in zip(
        feature_sizes, feature_sizes if valid_sizes is None else valid_sizes, strides
    ):
        row, column = _nearest_cells(centres, valid_height, valid_width, stride, topk)  # (k, M)
        points = torch.stack((column, row), dim=-1) * float(stride)  # (k, M, 2)
        locations.append(first_location + row * width + column)
        ious.append(_anchor_iou(points, anchor_scale * stride / 2, gt_boxes))
        sides = torch.cat((points - gt_boxes[:, :2], gt_boxes[:, 2:] - points), dim=-1)
        inside.append(sides.amin(dim=-1) > 0.01)
        first_location += height * width

    iou = torch.cat(ious)  # (C, M)
    threshold = iou.mean(dim=0) + iou.std(dim=0)
    positive = (iou >= threshold) & torch.cat(inside)
    return _best_claims(torch.cat(locations), iou, positive)


def _nearest_cells(
    centres: Tensor, height: int, width: int, stride: int, topk: int
) -> tuple[Tensor, Tensor]:
    """The cells of a level nearest each centre -> row, column, both (min(topk, H W), M) int64.

    The topk cells nearest a point, along one axis, are consecutive; those of the plane lie in the
    product of both runs, since whatever is farther along an axis has topk nearer cells before it.
    """
    run = topk / 2
    first_column = (centres[:, 0] / stride - run).ceil().clamp(0, max(width - topk, 0)).long()
    first_row = (centres[:, 1] / stride - run).ceil().clamp(0, max(height - topk, 0)).long()
    window_width, window_height = min(topk, width), min(topk, height)
    cell = torch.arange(window_height * window_width, device=centres.device)[:, None]
    row = first_row + torch.div(cell, window_width, rounding_mode="floor")  # (cells, M)
    column = first_column + cell % window_width
    distance_x = column * stride - centres[:, 0]
    distance_y = row * stride - centres[:, 1]
    distance = (distance_x.square() + distance_y.square()).sqrt()
    # Stable: cells are numbered by ascending location, so the lower one wins where they tie.
    nearest = distance.argsort(dim=0, stable=True)[:topk]
    return row.gather(0, nearest), column.gather(0, nearest)


def _anchor_iou(points: Tensor, half_side: float, gt_boxes: Tensor) -> Tensor:
    """IoU of the square anchors around points (k, M, 2) with the boxes (M, 4) -> (k, M)."""
    low = torch.maximum(points - half_side, gt_boxes[:, :2])
    high = torch.minimum(points + half_side, gt_boxes[:, 2:])
    intersection = (high - low).clamp(min=0).prod(dim=-1)
    gt_area = (gt_boxes[:, 2:] - gt_boxes[:, :2]).prod(dim=-1)
    union = (2 * half_side) ** 2 + gt_area - intersection
    return intersection / union.clamp(min=1e-6)


def _best_claims(locations: Tensor, iou: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    """Of all positive (candidate, box) pairs keep the best box of each location.

    Args:
        locations, iou, positive: all (C, M).
    """
    gt_index, candidate = positive.T.nonzero(as_tuple=True)
    location, iou = locations[candidate, gt_index], iou[candidate, gt_index]
    # Two stable sorts: by location, within it by descending IoU, within that by box.
    order = iou.argsort(descending=True, stable=True)
    order = order[location[order].argsort(stable=True)]
    location, gt_index = location[order], gt_index[order]
    first = torch.ones_like(location, dtype=torch.bool)
    first[1:] = location[1:] != location[:-1]
    return location[first], gt_index[first]


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
