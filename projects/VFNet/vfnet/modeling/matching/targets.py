"""What the locations of a batch learn: the assignments of its images, put together."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from detectron2.structures import Instances
from torch import Tensor

from ...utils.device import to_device

Size = tuple[int, int]  # height, width


# Which locations of a batch learn which box: `atss_match_batch` with its own numbers set. Where
# locations are ignored it is given `ignored` too.
Matcher = Callable[..., tuple[Tensor, Tensor]]


class Targets(NamedTuple):
    """Targets of N images of R locations each; P = positive locations of all of them.

    index: (P,) int64, place among the N * R locations of the batch.
    classes: (P,) int64.
    boxes: (P, 4) float32, x1, y1, x2, y2 in pixels.
    valid: (N * R,) bool, False in the padding outside an image's own size and where `ignored`.
    gts_without_positive: 0-dim int64, ground truths that no location learns.
    image_sizes: (N, 2) int64, height and width of each image before padding, in pixels.
    initial: of a detector that assigns twice, the targets of its first stage.
    ignored: (N * R,) bool, what takes part in no loss, whatever else `valid` leaves in; None:
        nothing is ignored.
    """

    index: Tensor
    classes: Tensor
    boxes: Tensor
    valid: Tensor
    gts_without_positive: Tensor
    image_sizes: Tensor
    initial: "Targets | None" = None
    ignored: Tensor | None = None

    def to(self, device: torch.device) -> "Targets":
        """The same on a device; see `to_device`."""
        moved: dict[str, Any] = {
            name: to_device(value, device)
            for name, value in self._asdict().items()
            if isinstance(value, Tensor)
        }
        if self.initial is not None:
            moved["initial"] = self.initial.to(device)
        return self._replace(**moved)

    def positives_of_images(self, num_locations: int) -> Tensor:
        """Positive locations of each image of R = `num_locations` -> (N,) float32."""
        count = self.boxes.new_zeros(len(self.valid) // num_locations)
        return count.index_add_(
            0, self.index // num_locations, self.boxes.new_ones(len(self.index))
        )


@torch.no_grad()
def assign_targets(
    gt_instances: Sequence[Instances],
    image_sizes: Sequence[Size],
    feature_sizes: Sequence[Size],
    strides: Sequence[int],
    size_divisibility: int,
    matcher: Matcher,
    ignored: Tensor | None = None,
) -> Targets:
    """Assign the ground truth of each image to its locations.

    Args:
        gt_instances: of each image, with `gt_boxes` and `gt_classes`.
        image_sizes: (H, W) of each image before padding, in pixels.
        feature_sizes: (H, W) of each level, of the padded batch.
        strides: pixels a cell, of each level.
        size_divisibility: what image sides are padded to a multiple of.
        matcher: says which locations learn which box.
        ignored: (N R,) bool, locations that learn nothing; None: there is none.
    """
    device = gt_instances[0].gt_boxes.device
    gt_boxes = torch.cat([gt.gt_boxes.tensor for gt in gt_instances])
    gt_classes = torch.cat([gt.gt_classes for gt in gt_instances])
    image = torch.cat(
        [torch.full((len(gt),), i, device=device) for i, gt in enumerate(gt_instances)]
    )
    valid_sizes = own_sizes_of_batch(image_sizes, feature_sizes, strides, size_divisibility, device)
    valid = valid_mask(feature_sizes, valid_sizes)
    which = {}
    if ignored is not None:
        which["ignored"] = ignored
        valid &= ~ignored
    index, gt_index = matcher(gt_boxes, image, valid_sizes, feature_sizes, strides, **which)
    sizes = torch.tensor(image_sizes, device=device)
    targets = collect_targets(index, gt_index, gt_boxes, gt_classes, valid, sizes)
    return targets._replace(**which)


def collect_targets(
    index: Tensor,
    gt_index: Tensor,
    gt_boxes: Tensor,
    gt_classes: Tensor,
    valid: Tensor,
    image_sizes: Tensor,
) -> Targets:
    """Put together what positives at `index` (P,) learn: the ground truths `gt_index` (P,).

    `gt_boxes` (M, 4) and `gt_classes` (M,) are those of all images; the others: see `Targets`.
    """
    matched = torch.zeros(len(gt_boxes), dtype=torch.bool, device=gt_boxes.device)
    matched[gt_index] = True
    return Targets(
        index,
        gt_classes[gt_index],
        gt_boxes[gt_index].float(),
        valid,
        (~matched).sum(),
        image_sizes,
    )


def own_sizes_of_batch(
    image_sizes: Sequence[Size],
    feature_sizes: Sequence[Size],
    strides: Sequence[int],
    divisibility: int,
    device: torch.device,
) -> Tensor:
    """`own_sizes` of each image -> (N, levels, 2) int64, (H, W)."""
    sizes = [own_sizes(size, feature_sizes, strides, divisibility) for size in image_sizes]
    return torch.tensor(sizes, device=device)


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


def valid_mask(feature_sizes: Sequence[Size], valid_sizes: Tensor) -> Tensor:
    """Whether each location lies in its own image: (N, levels, 2) sizes -> (N * R,)."""
    masks = []
    for level, (height, width) in enumerate(feature_sizes):
        own_height, own_width = valid_sizes[:, level].T  # (N,) each
        rows = torch.arange(height, device=valid_sizes.device) < own_height[:, None]
        columns = torch.arange(width, device=valid_sizes.device) < own_width[:, None]
        masks.append((rows[:, :, None] & columns[:, None]).flatten(1))
    return torch.cat(masks, dim=1).flatten()
