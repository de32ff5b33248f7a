"""What the locations of a batch learn: the assignments of its images, put together."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from detectron2.structures import Instances
from torch import Tensor

from .assignment import atss_match

Size = tuple[int, int]  # height, width


class Targets(NamedTuple):
    """Targets of N images of R locations each; P = positive locations of all of them.

    index: (P,) int64, place among the N * R locations of the batch.
    classes: (P,) int64.
    boxes: (P, 4) float32, x1, y1, x2, y2 in pixels.
    valid: (N * R,) bool, False in the padding outside an image's own size.
    gts_without_positive: 0-dim int64, ground truths that no location learns.
    """

    index: Tensor
    classes: Tensor
    boxes: Tensor
    valid: Tensor
    gts_without_positive: Tensor


@torch.no_grad()
def assign_targets(
    gt_instances: Sequence[Instances],
    image_sizes: Sequence[Size],
    feature_sizes: Sequence[Size],
    strides: Sequence[int],
    size_divisibility: int,
    topk: int = 9,
    anchor_scale: float = 8.0,
) -> Targets:
    """Assign the ground truth of each image to its locations.

    Args:
        gt_instances: of each image, with `gt_boxes` and `gt_classes`.
        image_sizes: (H, W) of each image before padding, in pixels.
        feature_sizes: (H, W) of each level, of the padded batch.
        strides: pixels a cell, of each level.
        size_divisibility: what image sides are padded to a multiple of.
        topk, anchor_scale: see `atss_match`.
    """
    num_locations = sum(height * width for height, width in feature_sizes)
    index, classes, boxes, unmatched = [], [], [], []
    valid: list[Tensor] = []
    for i, (gt, image_size) in enumerate(zip(gt_instances, image_sizes)):
        gt_boxes, gt_classes = gt.gt_boxes.tensor, gt.gt_classes
        valid_sizes = own_sizes(image_size, feature_sizes, strides, size_divisibility)
        locations, gt_index = atss_match(
            gt_boxes, feature_sizes, strides, topk, anchor_scale, valid_sizes
        )
        index.append(locations + i * num_locations)
        classes.append(gt_classes[gt_index])
        boxes.append(gt_boxes[gt_index].float())
        valid.extend(
            _valid_mask(*sizes, gt_boxes.device) for sizes in zip(feature_sizes, valid_sizes)
        )
        matched = torch.zeros(len(gt_boxes), dtype=torch.bool, device=gt_boxes.device)
        matched[gt_index] = True
        unmatched.append((~matched).sum())
    return Targets(
        torch.cat(index),
        torch.cat(classes),
        torch.cat(boxes),
        torch.cat(valid),
        torch.stack(unmatched).sum(),
    )


def own_sizes(
    image_size: Size, feature_sizes: Sequence[Size], strides: Sequence[int], divisibility: int
) -> list[Size]:
    """The part of each level that the image, padded for itself alone, would fill."""
    divisibility = max(divisibility, 1)
    height, width = (-(-side // divisibility) * divisibility for side in image_size)
    return [
        (min(-(-height // stride), level_height), min(-(-width // stride), level_width))
        for stride, (level_height, level_width) in zip(strides, feature_sizes)
    ]


def _valid_mask(feature_size: Size, valid_size: Size, device: torch.device) -> Tensor:
    mask = torch.zeros(feature_size, dtype=torch.bool, device=device)
    mask[: valid_size[0], : valid_size[1]] = True
    return mask.flatten()
