"""Losses of boxes, float32 inside whatever autocast says."""

import math

import torch
from torch import Tensor

# Of FoveaBox's and RepPoints' smooth L1 losses.
SMOOTH_L1_BETA = 0.11


def iou_and_giou(boxes: Tensor, targets: Tensor, eps: float = 1e-6) -> tuple[Tensor, Tensor]:
    """IoU and generalised IoU (https://arxiv.org/abs/1902.09630) of pairs of boxes.

    Both from one computation, and with areas kept above `eps` as mmdet does: fvcore and torchvision
    add it instead, and return the loss alone.

    Args:
        boxes, targets: (P, 4), x1, y1, x2, y2.
        eps: the smallest area divided by, in square pixels.

    Returns:
        IoU and GIoU, both (P,).
    """
    boxes, targets = boxes.float(), targets.float()
    low, high = boxes[:, :2], boxes[:, 2:]
    target_low, target_high = targets[:, :2], targets[:, 2:]
    overlap = torch.minimum(high, target_high) - torch.maximum(low, target_low)
    intersection = _area(overlap.clamp(min=0))
    union = _area(high - low) + _area(target_high - target_low) - intersection
    iou = intersection / union.clamp(min=eps)
    hull = torch.maximum(high, target_high) - torch.minimum(low, target_low)
    enclosing = _area(hull.clamp(min=0))
    return iou, iou - (enclosing - union) / enclosing.clamp(min=eps)


def _area(sides: Tensor) -> Tensor:
    """Width times height of (P, 2). Not `prod`: its gradient makes the host wait for a GPU."""
    return sides[:, 0] * sides[:, 1]


def iou_weighted_giou_loss(boxes: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """GIoU loss of each box, weighted by its own IoU, which takes no gradient.

    The IoU is kept above 0: as a classification target, 0 would turn a positive into a negative.

    Args:
        boxes, targets: (P, 4), x1, y1, x2, y2.

    Returns:
        The sum of q (1 - GIoU), a scalar, and q, (P,).
    """
    iou, giou = iou_and_giou(boxes, targets)
    q = iou.detach().clamp(min=1e-6)
    return (q * (1 - giou)).sum(), q


def centerness(distances: Tensor) -> Tensor:
    """How near a location is to the middle of its box (FCOS, equation 3), 0 to 1.

    A location outside its box, which only ATSS_FALLBACK gives, is the best that the box has: 1.

    Args:
        distances: (P, 4), left, top, right, bottom.
    """
    x, y = distances[:, 0::2], distances[:, 1::2]
    shares = x.amin(dim=1) / x.amax(dim=1) * (y.amin(dim=1) / y.amax(dim=1))
    return torch.where(distances.amin(dim=1) > 0, shares, 1).sqrt()


def balanced_l1_loss(
    deltas: Tensor, targets: Tensor, alpha: float = 0.5, gamma: float = 1.5, beta: float = 1.0
) -> Tensor:
    """Balanced L1 loss (Libra R-CNN, equation 9, https://arxiv.org/abs/1904.02701), of each number.

    Of a small difference it has more gradient than smooth L1, of a large one not more than `gamma`.

    Args:
        deltas, targets: of one shape.
        alpha: the lower, the more weight for small differences.
        gamma: the gradient from `beta` on.
        beta: where the logarithm's part ends.
    """
    difference = (deltas.float() - targets.float()).abs()
    b = math.exp(gamma / alpha) - 1
    small = difference.clamp(max=beta)  # else the part not taken overflows, and its gradient is NaN
    inner = alpha / b * (b * small + 1) * torch.log(b * small / beta + 1) - alpha * small
    outer = gamma * difference + gamma / b - alpha * beta
    return torch.where(difference < beta, inner, outer)
