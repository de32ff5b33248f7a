"""Boxes as what a network predicts of them at a location."""

import torch
from detectron2.modeling.box_regression import _DEFAULT_SCALE_CLAMP, Box2BoxTransform
from torch import Tensor

# What ATSS's deltas are divided by: mmdet's standard deviations 0.1, 0.1, 0.2, 0.2.
_ATSS_WEIGHTS = (10.0, 10.0, 5.0, 5.0)

# Bound of what a network predicts before exp(): e^10 units of 64 pixels (VFNet's on P3) are 1.4
# million pixels, far outside any image, while two such factors (initial times refined) still
# square to an area that float32 holds. Unbounded, a diverging head overflows to an infinite area,
# whose GIoU is NaN.
MAX_EXPONENT = 10.0


def bounded_exp(raw: Tensor, scale: Tensor | float = 1.0) -> Tensor:
    """exp(scale * raw), float32, its exponent bounded by `MAX_EXPONENT` to either side."""
    return (scale * raw.float()).clamp(-MAX_EXPONENT, MAX_EXPONENT).exp()


def distances_to_boxes(points: Tensor, distances: Tensor) -> Tensor:
    """Boxes x1, y1, x2, y2 from points (..., 2) and distances l, t, r, b (..., 4), in pixels."""
    return torch.cat((points - distances[..., :2], points + distances[..., 2:]), dim=-1)


def boxes_to_distances(points: Tensor, boxes: Tensor) -> Tensor:
    """Distances l, t, r, b (..., 4) from points (..., 2) to the sides of boxes (..., 4)."""
    return torch.cat((points - boxes[..., :2], boxes[..., 2:] - points), dim=-1)


def square_boxes(points: Tensor, half_side: Tensor) -> Tensor:
    """Square boxes (..., 4) around points (..., 2), whose half sides are (..., 1)."""
    return torch.cat((points - half_side, points + half_side), dim=-1)


def points_to_boxes(points: Tensor, log_scales: Tensor) -> Tensor:
    """Boxes of sets of points by their moments (RepPoints, section 3.2, T3).

    A box lies around the mean of its points; its half sides are their standard deviations
    (unbiased), times learnt factors.

    Args:
        points: (..., n, 2), x and y.
        log_scales: (2,), logarithms of the factors of width and height.

    Returns:
        (..., 4), x1, y1, x2, y2, in the unit of the points.
    """
    mean = points.mean(dim=-2)
    half = points.std(dim=-2) * bounded_exp(log_scales)
    return torch.cat((mean - half, mean + half), dim=-1)


def deltas_to_boxes(
    deltas: Tensor, anchors: Tensor, weights: tuple[float, ...] = _ATSS_WEIGHTS
) -> Tensor:
    """Boxes from deltas (A, 4) of anchors (A, 4), as R-CNN codes them (`Box2BoxTransform`).

    Width and height change by a factor of 1000 / 16 at most, up and, unlike in Detectron2, down.
    """
    shift, width, height = deltas.split((2, 1, 1), dim=1)
    # By numbers: a tensor of the weights would make the host wait for a GPU.
    width = width.clamp(min=-_DEFAULT_SCALE_CLAMP * weights[2])
    height = height.clamp(min=-_DEFAULT_SCALE_CLAMP * weights[3])
    bounded = torch.cat((shift, width, height), dim=1)
    return Box2BoxTransform(weights).apply_deltas(bounded, anchors)


def expected_distances(logits: Tensor, bins: Tensor) -> Tensor:
    """The mean of each side's distribution (GFL, equation 5).

    Args:
        logits: (..., 4 B), side by side: the B bins of left, then of top, right and bottom.
        bins: (B,), their values.

    Returns:
        (..., 4), in the unit of `bins`.
    """
    probabilities = logits.float().unflatten(-1, (4, -1)).softmax(dim=-1)
    return (probabilities * bins).sum(dim=-1)  # a matrix product would be in autocast's precision
