"""What anchors, or boxes that are predicted, learn by their IoU with the ground truth."""

from collections.abc import Sequence

import torch
from detectron2.structures import Boxes, Instances, pairwise_iou
from torch import Tensor

from .max_iou import IouMatcher
from .targets import Size, Targets, collect_targets, own_sizes_of_batch, valid_mask


@torch.no_grad()
def assign_anchors(
    gt_instances: Sequence[Instances],
    anchors: Tensor,
    image_sizes: Sequence[Size],
    feature_sizes: Sequence[Size],
    strides: Sequence[int],
    size_divisibility: int,
    matcher: IouMatcher,
    ignored: Tensor | None = None,
) -> Targets:
    """Assign the ground truth of each image to the anchors outside its padding.

    Args:
        gt_instances: of N images, with `gt_boxes` and `gt_classes`.
        anchors: (A, 4), x1, y1, x2, y2 in pixels; those of a location follow each other, and all
            locations have as many.
        image_sizes, feature_sizes, strides, size_divisibility: as in `assign_targets`.
        matcher: says which anchors learn which box, and which are background.
        ignored: (N A,) bool, anchors that take no part either; None: there is none.

    Returns:
        as `assign_boxes`.
    """
    own_sizes = own_sizes_of_batch(
        image_sizes, feature_sizes, strides, size_divisibility, anchors.device
    )
    exists = valid_mask(feature_sizes, own_sizes).view(len(image_sizes), -1)  # (N, locations)
    exists = exists.repeat_interleave(len(anchors) // exists.shape[1], dim=1)  # (N, A)
    if ignored is not None:
        exists = exists & ~ignored.view_as(exists)
    boxes = anchors.expand(len(image_sizes), -1, -1)
    sizes = torch.tensor(image_sizes, device=anchors.device)
    return assign_boxes(gt_instances, boxes, exists, sizes, matcher, ignored is not None)


@torch.no_grad()
def assign_boxes(
    gt_instances: Sequence[Instances],
    boxes: Tensor,
    exists: Tensor,
    image_sizes: Tensor,
    matcher: IouMatcher,
    only_overlapped: bool = False,
) -> Targets:
    """Assign the ground truth of each image to the boxes that it has.

    It needs the IoU of every box with every ground truth of its image: see `max_iou_match`, also
    for what happens to a ground truth that no box meets.

    Args:
        gt_instances: of N images, with `gt_boxes` and `gt_classes`; all on one device.
        boxes: (N, A, 4), x1, y1, x2, y2 in pixels.
        exists: (N, A) bool; boxes where it is False take no part, not even as the best ones.
        image_sizes: (N, 2) int64, height and width of each image.
        matcher: says which boxes learn which ground truth, and which are background.
        only_overlapped: leave out a ground truth that no box overlaps which takes part. By
            `max_iou_match` it would be learnt by all that do not: rare, but the rule where the
            boxes on it are ignored.

    Returns:
        Targets whose locations are the boxes; not valid are those that are neither positive nor
        background.
    """
    all_labels, all_indices, first_gt = [], [], 0
    for gt, own_boxes, own in zip(gt_instances, boxes, exists):
        ious = pairwise_iou(gt.gt_boxes, Boxes(own_boxes)).masked_fill_(~own, 0.0)
        rows = torch.arange(len(gt), device=ious.device)
        if only_overlapped:
            rows = rows[(ious > 0).any(dim=1)]
        row, labels = matcher(ious[rows])
        gt_index = rows[row] if len(rows) else row
        all_labels.append(labels.masked_fill(~own, -1))
        all_indices.append(gt_index + first_gt)
        first_gt += len(gt)
    labels = torch.cat(all_labels)
    index = (labels == 1).nonzero().squeeze(1)
    gt_index = torch.cat(all_indices)[index]
    gt_boxes = torch.cat([gt.gt_boxes.tensor for gt in gt_instances])
    gt_classes = torch.cat([gt.gt_classes for gt in gt_instances])
    return collect_targets(index, gt_index, gt_boxes, gt_classes, labels >= 0, image_sizes)
