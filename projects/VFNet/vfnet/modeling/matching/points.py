"""RepPoints: which location learns which ground truth (https://arxiv.org/abs/1904.11490, 3.4).

Its first stage assigns by place, its second one by the boxes that the first predicts.
Naming convention: M = ground-truth boxes.
"""

import math
from collections.abc import Sequence

import torch
from detectron2.structures import Instances
from torch import Tensor

from .anchors import assign_boxes
from .claims import best_open_claims
from .max_iou import max_iou_match
from .targets import Targets


@torch.no_grad()
def point_match_batch(
    gt_boxes: Tensor,
    image: Tensor,
    valid_sizes: Tensor,
    feature_sizes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    base_scale: float = 4.0,
    ignored: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Find the one location of a batch that each box is learnt by, in the first stage.

    It is the location nearest the box's centre, of two the lower, on the level whose stride times
    `base_scale` is the box's size in powers of two, rounded down. Where several boxes claim it, the
    nearest centre wins, measured in the box's own width and height; of equal ones the first box.
    The cost grows with M alone.

    Args:
        gt_boxes, image, valid_sizes, feature_sizes, strides: as in `atss_match_batch`.
        base_scale: strides that a box has whose size is that of its level.
        ignored: (N R,) bool, locations that learn nothing; None: there is none.

    Returns:
        as `atss_match_batch`.
    """
    gt_boxes, device = gt_boxes.float(), gt_boxes.device
    centre = (gt_boxes[:, :2] + gt_boxes[:, 2:]) / 2  # (M, 2)
    size = (gt_boxes[:, 2:] - gt_boxes[:, :2]).clamp(min=1e-6)
    octave = (size / base_scale).log2().mean(dim=1).int()
    level_octaves = torch.tensor([int(math.log2(stride)) for stride in strides], device=device)
    level = (torch.searchsorted(level_octaves, octave, right=True) - 1).clamp(min=0)  # (M,)

    stride = torch.tensor(strides, device=device)[level, None]
    limit = valid_sizes[image, level].flip(1) - 1  # the last column and row of its image
    cell = (centre / stride - 0.5).ceil().clamp(min=0).minimum(limit)  # x, y
    distance = ((cell * stride - centre) / size).norm(dim=1)

    cells = torch.tensor([height * width for height, width in feature_sizes], device=device)
    width = torch.tensor([width for _, width in feature_sizes], device=device)[level]
    column, row = cell.long().unbind(dim=1)
    location = image * cells.sum() + (cells.cumsum(0) - cells)[level] + row * width + column
    gt_index = torch.arange(len(gt_boxes), device=device)
    return best_open_claims(location, gt_index, -distance, ignored)


def refined_targets(initial: Targets, boxes: Tensor, gt_instances: Sequence[Instances]) -> Targets:
    """What each location learns in the second stage, by max IoU of the boxes of the first.

    Args:
        initial: targets of the first stage.
        boxes: (N, R, 4), predicted there, x1, y1, x2, y2 in pixels.
        gt_instances: of each image, with `gt_boxes` and `gt_classes`; all on one device.

    Returns:
        Targets, `valid` also False for what is neither positive nor negative.
    """
    exists = initial.valid.view(len(boxes), -1)  # padding and what is ignored take no part
    only_overlapped = initial.ignored is not None
    targets = assign_boxes(
        gt_instances, boxes, exists, initial.image_sizes, max_iou_match, only_overlapped
    )
    return targets._replace(initial=initial)
