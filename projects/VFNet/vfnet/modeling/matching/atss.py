"""ATSS: which location learns which ground truth (https://arxiv.org/abs/1912.02424, algorithm 1).

Naming convention: M = ground-truth boxes, k = candidates of a level, C = candidates of all levels.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .claims import best_claims
from .fallback import Places, give_every_box_a_location
from .nearest_cells import nearest_cells, nearest_open_cells
from .targets import valid_mask

# Row and column of cells, and whether they take part: (k, M) each.
Cells = tuple[Tensor, Tensor, Tensor]


@torch.no_grad()
def atss_match(
    gt_boxes: Tensor,
    feature_sizes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    topk: int = 9,
    anchor_scale: float = 8.0,
    valid_sizes: Sequence[tuple[int, int]] | None = None,
    fallback: bool = False,
    ignored: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Find the positive locations of one image and the box that each of them learns.

    A location (row i, column j) of a level with stride s stands at (j s, i s) and owns one square
    anchor of side `anchor_scale` s around it. The topk locations nearest a box's centre, on each
    level, are its candidates; those whose anchor's IoU reaches the candidates' mean plus standard
    deviation, and which lie inside the box, are positive. A location that several boxes claim
    goes to the one it overlaps most. Of equal distances the lower location wins, of equal overlaps
    the lower box.

    Only the candidates' IoUs are computed: the cost grows with M, not with M times the locations.
    Where locations are ignored, all distances are.

    Args:
        gt_boxes: (M, 4), x1, y1, x2, y2 in pixels.
        feature_sizes: (H, W) of each level.
        strides: pixels a cell, of each level.
        topk: candidates a box takes from each level.
        anchor_scale: side of the anchor in strides.
        valid_sizes: (H, W), the part of each level that belongs to this image; None: all of it.
        fallback: boxes that would have no location have one: see `give_every_box_a_location`.
        ignored: (R,) bool, locations of all levels that take no part, as if they were not there:
            a box's candidates are the next ones, as in mmdet. None: all take part.

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
        fallback=fallback,
        ignored=ignored,
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
    *,
    fallback: bool = False,
    ignored: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`atss_match` of all images of a batch in one go; R = locations of an image.

    Args:
        gt_boxes: (M, 4), of all images.
        image: (M,) int64, the image that a box belongs to.
        valid_sizes: (N, levels, 2) int64, (H, W), the part of each level that belongs to an image.
        feature_sizes, strides, topk, anchor_scale, fallback: as in `atss_match`.
        ignored: as there, (N R,).

    Returns:
        locations: (P,) int64, ascending, image by image: location + image x R.
        gt_index: (P,) int64, into `gt_boxes`.
    """
    gt_boxes = gt_boxes.float()
    centres = (gt_boxes[:, :2] + gt_boxes[:, 2:]) / 2  # (M, 2)
    is_open = None if ignored is None else _open_cells(valid_sizes, feature_sizes, ignored)
    levels = _levels(feature_sizes, strides)
    found = []
    for number, level in enumerate(levels):
        if is_open is None:
            height, width = valid_sizes[image, number].unbind(dim=1)  # (M,) each
            cells = nearest_cells(centres, height, width, level.stride, topk)
        else:
            cells = nearest_open_cells(centres, is_open[number], image, level.stride, topk)
        found.append(_places(cells, level, anchor_scale, gt_boxes, image))

    candidates = Places(*map(torch.cat, zip(*found)))
    positive = candidates.iou >= _threshold(candidates.iou, candidates.exists)
    positive &= candidates.is_inside & candidates.exists
    claims = _best_claims(candidates.location, candidates.iou, positive)
    if not fallback:
        return claims

    def everywhere(box: int) -> Places:
        own = slice(box, box + 1)
        all_open = is_open or _open_cells(valid_sizes, feature_sizes, None)
        found = [
            _places(_all_cells(mask[image[box]]), level, anchor_scale, gt_boxes[own], image[own])
            for mask, level in zip(all_open, levels)
        ]
        return Places(*map(torch.cat, zip(*found)))

    return give_every_box_a_location(*claims, candidates, everywhere)


class _Level(NamedTuple):
    """Where a level's locations are among those of a batch: width in cells, pixels a cell."""

    first: int  # location of an image
    width: int
    stride: int
    of_image: int  # locations of all levels


def _levels(feature_sizes: Sequence[tuple[int, int]], strides: Sequence[int]) -> list[_Level]:
    counts = [height * width for height, width in feature_sizes]
    return [
        _Level(sum(counts[:number]), width, stride, sum(counts))
        for number, ((_, width), stride) in enumerate(zip(feature_sizes, strides))
    ]


def _places(
    cells: Cells, level: _Level, anchor_scale: float, gt_boxes: Tensor, image: Tensor
) -> Places:
    """What cells (k, M) of a level are to the boxes (M, 4) of images (M,)."""
    row, column, exists = cells
    points = torch.stack((column, row), dim=-1) * float(level.stride)  # (k, M, 2)
    location = image * level.of_image + level.first + row * level.width + column
    iou = _anchor_iou(points, anchor_scale * level.stride / 2, gt_boxes)
    sides = torch.cat((points - gt_boxes[:, :2], gt_boxes[:, 2:] - points), dim=-1)
    centres = (gt_boxes[:, :2] + gt_boxes[:, 2:]) / 2
    distance = (points - centres).square().sum(dim=-1).sqrt()
    return Places(location, iou, sides.amin(dim=-1) > 0.01, distance, exists)


def _open_cells(
    valid_sizes: Tensor, feature_sizes: Sequence[tuple[int, int]], ignored: Tensor | None
) -> list[Tensor]:
    """Which cells of each level take part -> (N, H, W) bool each."""
    is_open = valid_mask(feature_sizes, valid_sizes)
    if ignored is not None:
        is_open &= ~ignored
    counts = [height * width for height, width in feature_sizes]
    levels = is_open.view(len(valid_sizes), -1).split(counts, dim=1)
    return [level.unflatten(1, size) for level, size in zip(levels, feature_sizes)]


def _all_cells(is_open: Tensor) -> Cells:
    """All cells of an image's level (H, W) -> (H W, 1) each."""
    row, column = torch.ones_like(is_open).nonzero().split(1, dim=1)
    return row, column, is_open.view(-1, 1)


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
