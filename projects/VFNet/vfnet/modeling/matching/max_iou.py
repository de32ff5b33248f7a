"""Boxes to anchors by their IoU, as mmdet's `MaxIoUAssigner` does it.

Unlike the rest of this folder it needs the IoU of every anchor with every box: any of them may be
the best one of a box.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from detectron2.modeling.matcher import Matcher
from torch import Tensor

from ...errors import UserError

# IoUs (M, A) of an image's boxes with the anchors -> the box of each anchor, and its label.
IouMatcher = Callable[[Tensor], tuple[Tensor, Tensor]]


@torch.no_grad()
def max_iou_match(
    ious: Tensor,
    negative_below: float = 0.4,
    positive_from: float = 0.5,
    best_from: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Which box each anchor learns.

    An anchor learns the box that it overlaps most, if by `positive_from` or more; and it learns a
    box of which no anchor has a higher IoU, if that is `best_from` or more. Where the second holds
    for several boxes, the last of them wins, over the first rule too. Detectron2's `Matcher`, which
    the thresholds are left to, would give such an anchor the box that it overlaps most.

    Args:
        ious: (M, A), of M boxes with A anchors.
        negative_below: below it an anchor is background; between the two it takes no part.
        best_from: mmdet's `min_pos_iou`; at 0 even an IoU of 0 is a best one.

    Returns:
        gt_index: (A,) int64, the box that an anchor learns; meaningless where it learns none.
        labels: (A,) int8, 1 positive, 0 negative, -1 neither.
    """
    matcher = Matcher([negative_below, positive_from], [0, -1, 1], allow_low_quality_matches=False)
    gt_index, labels = matcher(ious)
    if len(ious) == 0:
        return gt_index, labels
    highest = ious.amax(dim=1, keepdim=True)
    is_best = (ious == highest) & (highest >= best_from)
    box = torch.arange(len(ious), dtype=torch.int32, device=ious.device)[:, None]
    last_box = torch.where(is_best, box, -1).amax(dim=0)
    low_quality = last_box >= 0
    return torch.where(low_quality, last_box, gt_index), labels.masked_fill(low_quality, 1)


def build_max_iou_matcher(
    thresholds: Sequence[float], labels: Sequence[int], *, prefix: str, best_from: float = 0.0
) -> IouMatcher:
    """`max_iou_match` by Detectron2's keys IOU_THRESHOLDS and IOU_LABELS.

    Args:
        thresholds: where an anchor ceases to be background, and from where it is positive; one
            number is both.
        labels: what Detectron2 calls the ranges between: [0, -1, 1] or [0, 1].
        prefix: of the keys, for messages, such as "MODEL.RETINANET".
        best_from: see `max_iou_match`.
    """
    thresholds, labels = list(thresholds), list(labels)
    expected = {1: [0, 1], 2: [0, -1, 1]}
    if labels != expected.get(len(thresholds)) or thresholds != sorted(thresholds):
        raise UserError(
            f"{prefix}.IOU_THRESHOLDS must be two ascending numbers with IOU_LABELS [0, -1, 1], or "
            f"one with [0, 1], got {thresholds} and {labels}"
        )
    return partial(
        max_iou_match,
        negative_below=thresholds[0],
        positive_from=thresholds[-1],
        best_from=best_from,
    )
