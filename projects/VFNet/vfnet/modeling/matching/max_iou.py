"""Boxes to anchors by their IoU, as mmdet's `MaxIoUAssigner` does it.

Unlike the rest of this folder it needs the IoU of every anchor with every box: any of them may be
the best one of a box.
"""

import torch
from detectron2.modeling.matcher import Matcher
from torch import Tensor


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
    box = torch.arange(len(ious), device=ious.device)[:, None]
    last_box = torch.where(is_best, box, -1).amax(dim=0)
    low_quality = last_box >= 0
    return torch.where(low_quality, last_box, gt_index), labels.masked_fill(low_quality, 1)
