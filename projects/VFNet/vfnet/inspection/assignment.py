"""Which locations learn which box, level by level, as in training.

Naming convention: M = ground-truth boxes, P = locations that learn one.
"""

from typing import Any, NamedTuple

import torch
from detectron2.structures import Boxes
from torch import Tensor, nn

from ..errors import UserError
from ..modeling.locations import level_numbers, level_sizes
from ..modeling.matching.targets import Targets
from ..modeling.meta_arch.dense import LocationDetector
from ..modeling.meta_arch.retinanet import QualityRetinaNet


class Level(NamedTuple):
    """A level, and what its locations learn.

    name: such as "p3". stride: pixels a cell. size: its height and width in cells.
    points: (P, 2), x and y of the locations that learn, in pixels of the image that is learnt from.
    gt_index: (P,) int64, the box that each learns; the lowest of several equal ones.
    """

    name: str
    stride: int
    size: tuple[int, int]
    points: Tensor
    gt_index: Tensor


class Assignment(NamedTuple):
    """What the locations of one image learn.

    unit: what learns: "locations", or "anchors", of which a location has several.
    gt_boxes: (M, 4), x1, y1, x2, y2 in pixels. gt_classes: (M,).
    levels: the finest first.
    """

    unit: str
    gt_boxes: Tensor
    gt_classes: Tensor
    levels: list[Level]

    def learners(self) -> Tensor:
        """How many locations (or anchors) of all levels learn each box -> (M,) int64."""
        gt_index = torch.cat([level.gt_index for level in self.levels])
        return torch.bincount(gt_index, minlength=len(self.gt_boxes))


def check_assignment_model(model: nn.Module) -> None:
    """Raise a UserError if a model assigns no boxes to locations."""
    if not isinstance(model, (LocationDetector, QualityRetinaNet)):
        raise UserError(
            "expected a detector whose locations or anchors learn boxes, such as "
            f"MODEL.META_ARCHITECTURE VFNet; got {type(model).__name__}"
        )


@torch.no_grad()
def find_assignment(
    model: LocationDetector | QualityRetinaNet, item: dict[str, Any], *, trained: bool = False
) -> Assignment:
    """Assign the boxes of one image as training does.

    Args:
        model: in evaluation mode.
        item: as the mapper gives it for training: "image" (3, H, W) and "instances".
        trained: whether the weights mean something. Of RepPoints, whose second stage is assigned
            by the boxes of its first, that stage is shown; without weights the first.

    Raises:
        UserError: the model assigns no boxes.
    """
    check_assignment_model(model)
    images, features, predictions = model.predict([item])
    gt = item["instances"].to(model.device)
    targets = model.assign(images, features, predictions, [gt])
    if targets.initial is not None and not trained:
        targets = targets.initial
    if isinstance(model, QualityRetinaNet):
        anchors = Boxes.cat(model.anchor_generator(features)).get_centers()
        number = model.anchor_generator.num_anchors[0]
        points, strides, unit = anchors[::number], model.anchor_generator.strides, "anchors"
    else:
        points, strides, number, unit = model.points(features), model.strides, 1, "locations"
    location, gt_index = targets.index // number, _learnt(targets, gt)
    sizes = level_sizes(features)
    level = level_numbers([height * width for height, width in sizes], points.device)[location]
    levels = [
        Level(name, stride, size, points[location[level == i]].cpu(), gt_index[level == i].cpu())
        for i, (name, stride, size) in enumerate(zip(model.head_in_features, strides, sizes))
    ]
    return Assignment(unit, gt.gt_boxes.tensor.cpu(), gt.gt_classes.cpu(), levels)


def _learnt(targets: Targets, gt: Any) -> Tensor:
    """The ground truth that each positive learns: the first with its box and class -> (P,)."""
    same = (targets.boxes[:, None] == gt.gt_boxes.tensor.float()).all(dim=2)
    same &= targets.classes[:, None] == gt.gt_classes
    if not len(gt):
        return targets.index
    return same.int().argmax(dim=1)
