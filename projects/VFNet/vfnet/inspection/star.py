"""Where a detector read, and what it made of it: nine points, first and refined box.

Of VFNet the points are those of the star (paper, figure 3), of RepPoints its representative points.
Naming convention: D = detections, R = locations of all levels.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..layers.star_conv import offset_points, star_offsets
from ..modeling.locations import flatten_levels, level_numbers, level_sizes
from ..modeling.meta_arch.dense import LocationDetector
from ..modeling.meta_arch.reppoints import RepPoints
from ..modeling.meta_arch.vfnet import VFNet


class Stars(NamedTuple):
    """The detections of one image, best first, and where each was read; pixels of the result.

    boxes: (D, 4), x1, y1, x2, y2: what is detected, clipped to the image.
    scores, classes: (D,).
    levels: (D,) int64, the level of each one's location, 0 is the finest.
    locations: (D, 2), x and y of it.
    points: (D, 9, 2), x and y of the places read, not clipped.
    first_boxes: (D, 4), what the points were derived from, not clipped.
    refined: whether `boxes` are other ones than `first_boxes`.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor
    levels: Tensor
    locations: Tensor
    points: Tensor
    first_boxes: Tensor
    refined: bool

    def best(self, count: int, lowest_score: float = 0.0) -> "Stars":
        """The first `count` detections of at least this score."""
        number = min(count, int((self.scores >= lowest_score).sum()))
        parts: dict[str, Any] = self._asdict()
        refined = parts.pop("refined")
        return Stars(**{name: part[:number] for name, part in parts.items()}, refined=refined)


def check_star_model(model: nn.Module) -> None:
    """Raise a UserError if a model does not read at nine points."""
    if isinstance(model, VFNet) and not model.head.star_features:
        raise UserError(
            "MODEL.VFNET.STAR_FEATURES is False: this VFNet has no star to draw; take a config "
            "and weights with STAR_FEATURES True"
        )
    if not isinstance(model, (VFNet, RepPoints)):
        raise UserError(
            "expected a detector that reads at nine points, MODEL.META_ARCHITECTURE VFNet or "
            f"RepPoints; got {type(model).__name__}"
        )


@torch.no_grad()
def find_stars(model: LocationDetector, item: dict[str, Any]) -> Stars:
    """Detect on one image, and keep where each detection was read.

    Args:
        model: a VFNet or a RepPoints, in evaluation mode.
        item: as the model takes it: "image" (3, H, W), and "height" and "width" of the result.

    Raises:
        UserError: the model does not read at nine points.
    """
    check_star_model(model)
    images, features, predictions = model.predict([item])
    at = model.points(features)  # (R, 2)
    scores, boxes, factor = model.decode(features, predictions)
    (candidates,) = model.choose(images, features, scores, boxes, factor)
    found = model.suppress(candidates, images.image_sizes[0])

    limit = [side - model.box_margin for side in images.image_sizes[0][::-1]]
    clipped = boxes.clamp(min=0).minimum(boxes.new_tensor([*limit, *limit]))
    location = origins(
        found.pred_boxes.tensor, scores[:, found.pred_classes].T, clipped
    )  # (D,), among R
    read_at, first_boxes, refined = _points_and_boxes(model, predictions, at)
    height, width = images.image_sizes[0]
    scale = at.new_tensor([item.get("width", width) / width, item.get("height", height) / height])
    levels = level_numbers(model.level_counts(features), at.device)
    return Stars(
        found.pred_boxes.tensor * scale.repeat(2),
        found.scores,
        found.pred_classes,
        levels[location],
        at[location] * scale,
        read_at[location] * scale,
        first_boxes[location] * scale.repeat(2),
        refined,
    )


def origins(boxes: Tensor, scores: Tensor, all_boxes: Tensor) -> Tensor:
    """The location that each detection came from: of those with its very box, the best.

    Args:
        boxes: (D, 4), detected.
        scores: (D, R), of each detection's class at all locations.
        all_boxes: (R, 4), of all locations, clipped as the detections are.

    Returns:
        (D,) int64.
    """
    same = (boxes[:, None] == all_boxes).all(dim=2)
    return torch.where(same, scores, -1.0).argmax(dim=1)


def star_points(points: Tensor, distances: Tensor, stride: int) -> Tensor:
    """Where the star of each location reads, by the offsets of its convolution.

    Args:
        points: (R, 2), x and y of the locations of a level, row by row, in pixels.
        distances: (1, 4, H, W), left, top, right, bottom of the boxes in pixels.
        stride: pixels a cell.

    Returns:
        (R, 9, 2), x and y in pixels; the tap in the middle reads the location itself.
    """
    return _around(points, offset_points(star_offsets(distances, stride)), stride)


def _around(points: Tensor, displacements: Tensor, stride: int) -> Tensor:
    """Points (R, 2) of a level, and (1, 18, H, W), (dy, dx) in cells -> (R, 9, 2) in pixels."""
    moved = flatten_levels([displacements]).unflatten(1, (9, 2)).flip(2)  # x and y
    return points[:, None] + moved * stride


def _points_and_boxes(
    model: LocationDetector, predictions: Any, points: Tensor
) -> tuple[Tensor, Tensor, bool]:
    """Of each location (R, 9, 2) read, (R, 4) first box; and whether that is refined then."""
    cells = [height * width for height, width in level_sizes(predictions.logits)]
    levels = list(zip(points.split(cells), model.strides))
    if isinstance(model, RepPoints):
        read = [_around(at, p, s) for (at, s), p in zip(levels, predictions.points)]
        first, refined = predictions._replace(refined_points=predictions.points), True
    else:
        read = [star_points(at, d, s) for (at, s), d in zip(levels, predictions.distances)]
        refined = bool(predictions.refined_distances)
        first = predictions._replace(refined_distances=[])
    return torch.cat(read), model.detected_boxes(first, points), refined
