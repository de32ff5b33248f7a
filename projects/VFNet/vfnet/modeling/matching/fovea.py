"""FoveaBox: which location learns which ground truth (https://arxiv.org/abs/1904.03797, 3.3).

Naming convention: M = ground-truth boxes, B = those that a level learns, C = cells they cover.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .claims import best_open_claims


@torch.no_grad()
def fovea_match_batch(
    gt_boxes: Tensor,
    image: Tensor,
    valid_sizes: Tensor,
    feature_sizes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    scale_ranges: Sequence[tuple[float, float]],
    sigma: float = 0.4,
    ignored: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Find the positive locations of a batch and the box that each of them learns.

    A level learns the boxes whose size, the square root of the area, lies in its range; one box may
    be learnt by several levels. Positive are the cells whose centre lies in the box shrunk to
    `sigma` of its sides. A cell that several boxes claim goes to the smallest, of equal ones to the
    last. Only those cells are listed: the cost grows with their number, not with M times the
    locations.

    Args:
        gt_boxes, image, feature_sizes, strides: as in `atss_match_batch`.
        valid_sizes: plays no part: cells are those of the batch, as in mmdet.
        scale_ranges: the lowest and the highest size that each level learns, both included, pixels.
        sigma: share of a box's sides.
        ignored: (N R,) bool, locations that learn nothing; None: there is none.

    Returns:
        as `atss_match_batch`.
    """
    gt_boxes = gt_boxes.float()
    size = (gt_boxes[:, 2:] - gt_boxes[:, :2]).prod(dim=1).sqrt()
    first_location = image * sum(height * width for height, width in feature_sizes)
    locations, gt_indices = [], []
    for (height, width), stride, (lowest, highest) in zip(feature_sizes, strides, scale_ranges):
        learnt = ((size >= lowest) & (size <= highest)).nonzero().squeeze(1)  # (B,)
        which, row, column = _central_cells(gt_boxes[learnt] / stride, sigma, height, width)
        gt_index = learnt[which]
        locations.append(first_location[gt_index] + row * width + column)
        gt_indices.append(gt_index)
        first_location = first_location + height * width
    # Backwards: of claims that are alike the first wins, and boxes ascend within a level.
    location, gt_index = torch.cat(locations).flip(0), torch.cat(gt_indices).flip(0)
    return best_open_claims(location, gt_index, -size[gt_index], ignored)


def _central_cells(
    boxes: Tensor, sigma: float, height: int, width: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The cells whose centres lie in the middle of boxes (B, 4), in cells of a level of this size.

    A middle outside the level is moved to its rim, as in mmdet.

    Returns:
        box, row, column: (C,) int64 each, box by box.
    """
    low, high = boxes[:, :2], boxes[:, 2:]
    half = 0.5 * (high - low)
    limit = boxes.new_tensor([width - 1, height - 1])
    first = (low + (1 - sigma) * half - 0.5).ceil().clamp(min=0).minimum(limit).long()  # x, y
    last = (low + (1 + sigma) * half - 0.5).floor().clamp(min=0).minimum(limit).long()
    columns, rows = (last - first + 1).clamp(min=0).unbind(dim=1)
    count = columns * rows
    which = torch.arange(len(boxes), device=boxes.device).repeat_interleave(count)
    place = torch.arange(len(which), device=boxes.device) - (count.cumsum(0) - count)[which]
    row = first[which, 1] + place // columns[which]
    return which, row, first[which, 0] + place % columns[which]
