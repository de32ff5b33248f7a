"""ATSS: which location learns which ground truth (https://arxiv.org/abs/1912.02424, algorithm 1).

Naming convention: M = ground-truth boxes, k = candidates of a level, C = candidates of all levels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .claims import best_claims


@torch.no_grad()
def atss_match(
    gt_boxes: Tensor,
    feature_sizes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    topk: int = 9,
    anchor_scale: float = 8.0,
    valid_sizes: Sequence[tuple[int, int]] | None = None,
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
    return atss_match_batch(
        gt_boxes,
        torch.zeros(len(gt_boxes), dtype=torch.int64, device=gt_boxes.device),
        torch.tensor([valid_sizes or feature_sizes], dtype=torch.int64, device=gt_boxes.device),
        feature_sizes,
        strides,
        topk,
        anchor_scale,
    )


@torch.no_grad()
def atss_match_batch(
    gt_boxes: Tensor,
    image: Tensor,
    valid_sizes: Tensor,
    feature_sizes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    topk: int = 9,
    anchor_scale: float = 8.0,
) -> tuple[Tensor, Tensor]:
    """`atss_match` of all images of a batch in one go; R = locations of an image.

    Args:
        gt_boxes: (M, 4), of all images.
        image: (M,) int64, the image that a box belongs to.
        valid_sizes: (N, levels, 2) int64, (H, W), the part of each level that belongs to an image.
        feature_sizes, strides, topk, anchor_scale: as in `atss_match`.

    Returns:
        locations: (P,) int64, ascending, image by image: location + image x R.
        gt_index: (P,) int64, into `gt_boxes`.
    """
    gt_boxes = gt_boxes.float()
    centres = (gt_boxes[:, :2] + gt_boxes[:, 2:]) / 2  # (M, 2)
    first_location = image * sum(height * width for height, width in feature_sizes)
    locations, ious, inside, exists = [], [], [], []
    for level, ((height, width), stride) in enumerate(zip(feature_sizes, strides)):
        own_height, own_width = valid_sizes[image, level].unbind(dim=1)  # (M,) each
        row, column = _nearest_cells(centres, own_height, own_width, stride, topk)
        points = torch.stack((column, row), dim=-1) * float(stride)  # (k, M, 2)
        locations.append(first_location + row * width + column)
        ious.append(_anchor_iou(points, anchor_scale * stride / 2, gt_boxes))
        sides = torch.cat((points - gt_boxes[:, :2], gt_boxes[:, 2:] - points), dim=-1)
        inside.append(sides.amin(dim=-1) > 0.01)
        exists.append((row < own_height) & (column < own_width))
        first_location = first_location + height * width

    iou, is_candidate = torch.cat(ious), torch.cat(exists)
    positive = (iou >= _threshold(iou, is_candidate)) & torch.cat(inside) & is_candidate
    return _best_claims(torch.cat(locations), iou, positive)


def _nearest_cells(
    centres: Tensor, height: Tensor, width: Tensor, stride: int, topk: int
) -> tuple[Tensor, Tensor]:
    """The cells of a level nearest each centre -> row, column, both (k, M) int64.

    The topk cells nearest a point, along one axis, are consecutive; those of the plane lie in the
    product of both runs, since whatever is farther along an axis has topk nearer cells before it.
    Where the image's own part of the level, `height` and `width` (M,), has fewer cells, others
    come last.
    """
    first_row, distance_y = _window_along(centres[:, 1], height, stride, topk)
    first_column, distance_x = _window_along(centres[:, 0], width, stride, topk)
    distance = (distance_x.square()[:, None, :] + distance_y.square()[:, :, None]).sqrt()
    # Floats that are not negative sort as their bits do. With the cell's number behind them, which
    # ascends with its location, the lower location wins where distances tie.
    order = torch.arange(topk**2, device=centres.device)
    key = distance.view(torch.int32).flatten(1).long() * topk**2 + order  # (M, cells)
    cell = key.topk(topk, largest=False).values % topk**2  # (M, k)
    row, column = first_row[:, None] + cell // topk, first_column[:, None] + cell % topk
    return row.T, column.T


def _window_along(centre: Tensor, size: Tensor, stride: int, topk: int) -> tuple[Tensor, Tensor]:
    """Where topk cells begin along one axis (M,), and their distances in pixels (M, topk).

    `centre` and `size`, the cells that there are, are (M,); other cells are infinitely far.
    """
    first = (centre / stride - topk / 2).ceil().clamp(min=0)
    first = torch.minimum(first, (size - topk).clamp(min=0)).long()
    cell = first[:, None] + torch.arange(topk, device=centre.device)
    distance = cell * stride - centre[:, None]
    return first, distance.masked_fill_(cell >= size[:, None], float("inf"))


def _threshold(iou: Tensor, is_candidate: Tensor) -> Tensor:
    """Mean plus standard deviation (unbiased) of each box's candidates: (C, M) twice -> (M,)."""
    count = is_candidate.sum(dim=0)
    mean = (iou * is_candidate).sum(dim=0) / count
    variance = ((iou - mean) * is_candidate).square().sum(dim=0) / (count - 1)
    return mean + variance.sqrt()


def _anchor_iou(points: Tensor, half_side: float, gt_boxes: Tensor) -> Tensor:
    """IoU of the square anchors around points (k, M, 2) with the boxes (M, 4) -> (k, M)."""
    low = torch.maximum(points - half_side, gt_boxes[:, :2])
    high = torch.minimum(points + half_side, gt_boxes[:, 2:])
    intersection = (high - low).clamp(min=0).prod(dim=-1)
    gt_area = (gt_boxes[:, 2:] - gt_boxes[:, :2]).prod(dim=-1)
    union = (2 * half_side) ** 2 + gt_area - intersection
    return intersection / union.clamp(min=1e-6)


def _best_claims(locations: Tensor, iou: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    """Of all positive (candidate, box) pairs, (C, M), keep the best box of each location."""
    gt_index, candidate = positive.T.nonzero(as_tuple=True)
    return best_claims(locations[candidate, gt_index], gt_index, iou[candidate, gt_index])
