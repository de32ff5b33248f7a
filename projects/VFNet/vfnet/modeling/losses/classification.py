"""Classification losses: pure functions, float32 inside whatever autocast says.

Naming convention: p = predicted probability, q = target score (IoU of the predicted box with its
ground truth at the ground-truth class of a positive location, 0 elsewhere).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from fvcore.nn import sigmoid_focal_loss
from torch import Tensor
from torch.nn import functional as F

from ...errors import UserError
from .varifocal_sum import varifocal_loss_sum


def reduce_loss(loss: Tensor, reduction: str) -> Tensor:
    """Reduce an element-wise loss: "none", "sum" or "mean"; anything else is a ValueError."""
    if reduction == "none":
        return loss
    if reduction == "sum":
        return loss.sum()
    if reduction == "mean":
        return loss.mean()
    raise ValueError(f"reduction must be 'none', 'sum' or 'mean', got {reduction!r}")


def varifocal_loss(
    logits: Tensor,
    targets: Tensor,
    alpha: float = 0.75,
    gamma: float = 2.0,
    iou_weighted: bool = True,
    reduction: str = "none",
) -> Tensor:
    """Varifocal loss (paper, equation 2).

    -q (q log p + (1 - q) log(1 - p)) where q > 0, and -alpha p^gamma log(1 - p) where q = 0.
    Negatives are weighted down as in focal loss, by a weight that gradients flow through;
    positives are not: they are weighted by q itself.

    Args:
        logits: (..., C).
        targets: (..., C), q.
        iou_weighted: False leaves out the factor q of positives (the paper's Table 2).
        reduction: "none", "sum" or "mean".
    """
    logits, targets = logits.float(), targets.float()
    negative_weight = alpha * (logits.sigmoid() - targets).abs().pow(gamma)  # p^gamma where q = 0
    positive_weight = targets if iou_weighted else torch.ones_like(targets)
    weight = torch.where(targets > 0, positive_weight, negative_weight)
    loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="none") * weight
    return reduce_loss(loss, reduction)


def quality_focal_loss(
    logits: Tensor, targets: Tensor, beta: float = 2.0, reduction: str = "none"
) -> Tensor:
    """Quality focal loss: `|q - p|^beta` times the cross entropy (GFL, equation 2).

    https://arxiv.org/abs/2006.04388

    Args:
        logits, targets: (..., C).
        reduction: "none", "sum" or "mean".
    """
    logits, targets = logits.float(), targets.float()
    weight = (targets - logits.sigmoid()).abs().pow(beta)
    loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="none") * weight
    return reduce_loss(loss, reduction)


def quality_focal_loss_of_probabilities(
    probabilities: Tensor, targets: Tensor, beta: float = 2.0, reduction: str = "none"
) -> Tensor:
    """Quality focal loss of what is no sigmoid of a logit, such as a product of probabilities.

    Args:
        probabilities: (..., C), 0 to 1. The logarithm of 0 counts as -100.
        targets, beta, reduction: as in `quality_focal_loss`.
    """
    probabilities, targets = probabilities.float(), targets.float()
    weight = (targets - probabilities).abs().pow(beta)
    # Not autocast's: it refuses this function in half precision.
    with torch.autocast(probabilities.device.type, enabled=False):
        cross_entropy = F.binary_cross_entropy(probabilities, targets, reduction="none")
    return reduce_loss(cross_entropy * weight, reduction)


def focal_loss(
    logits: Tensor,
    targets: Tensor,
    alpha: float = 0.25,
    gamma: float = 2.0,
    reduction: str = "none",
) -> Tensor:
    """Focal loss (https://arxiv.org/abs/1708.02002, equation 5); any q > 0 counts as 1.

    Args:
        logits, targets: (..., C).
        reduction: "none", "sum" or "mean".
    """
    loss = sigmoid_focal_loss(logits.float(), (targets > 0).float(), alpha=alpha, gamma=gamma)
    return reduce_loss(loss, reduction)


class Positives(NamedTuple):
    """The locations that learn a class: P of them, each with one class.

    row, column: (P,) int64, location and class, each pair once.
    quality: (P,) float32, q. Focal loss does not read it; under the others, a q of 0 is background.
    """

    row: Tensor
    column: Tensor
    quality: Tensor


# Classification loss of a batch: logits (A, C), or probabilities, positives, valid (A,), which rows
# count at all (others lie in the padding of the batch, are ignored, or are neither positive nor
# negative), and, of the others, those ignored (A,), which do not count where a loss learns
# everywhere either, or None -> the sum of them.
ClassificationLoss = Callable[..., Tensor]


def build_classification_loss(
    name: str,
    *,
    prefix: str,
    varifocal_alpha: float,
    varifocal_gamma: float,
    varifocal_iou_weighted: bool,
    quality_focal_beta: float,
    focal_alpha: float,
    focal_gamma: float,
    varifocal_everywhere: bool = False,
    of_probabilities: bool = False,
) -> ClassificationLoss:
    """The classification loss that CLS_LOSS names.

    Args:
        name: "varifocal", "quality_focal" or "focal".
        prefix: of the key, for messages, such as "MODEL.VFNET".
        varifocal_alpha, ...: see the losses.
        varifocal_everywhere: varifocal loss also learns where `valid` is False, as VFNet and ATSS
            were trained, but for what is ignored.
        of_probabilities: it is given probabilities instead of logits.
    """
    if of_probabilities:
        if name != "quality_focal":
            raise UserError(
                f"{prefix}.CLS_LOSS must be 'quality_focal' where the score is a product of "
                f"probabilities (QUALITY_PREDICTOR.ENABLED True), got {name!r}"
            )
        loss = partial(quality_focal_loss_of_probabilities, beta=quality_focal_beta)
        return partial(_sum_of_valid, loss)
    if name == "varifocal":
        return partial(
            _varifocal_sum,
            everywhere=varifocal_everywhere,
            alpha=varifocal_alpha,
            gamma=varifocal_gamma,
            iou_weighted=varifocal_iou_weighted,
        )
    if name == "quality_focal":
        return partial(_sum_of_valid, partial(quality_focal_loss, beta=quality_focal_beta))
    if name == "focal":
        return partial(_focal_sum, partial(focal_loss, alpha=focal_alpha, gamma=focal_gamma))
    raise UserError(
        f"{prefix}.CLS_LOSS must be 'varifocal', 'quality_focal' or 'focal', got {name!r}"
    )


def _varifocal_sum(
    logits: Tensor,
    positives: Positives,
    valid: Tensor,
    ignored: Tensor | None = None,
    *,
    everywhere: bool,
    **numbers: Any,
) -> Tensor:
    left_out = ignored if everywhere else ~valid
    if left_out is not None:
        # Of a logit of -inf, p is 0: neither loss nor gradient.
        logits = logits.masked_fill(left_out[:, None], float("-inf"))
    return varifocal_loss_sum(logits, *positives, **numbers)


def _focal_sum(
    loss: Callable[[Tensor, Tensor], Tensor],
    logits: Tensor,
    positives: Positives,
    valid: Tensor,
    ignored: Tensor | None = None,
) -> Tensor:
    positives = positives._replace(quality=torch.ones_like(positives.quality))
    return _sum_of_valid(loss, logits, positives, valid, ignored)


def _sum_of_valid(
    loss: Callable[[Tensor, Tensor], Tensor],
    logits: Tensor,
    positives: Positives,
    valid: Tensor,
    ignored: Tensor | None = None,
) -> Tensor:
    targets = torch.zeros_like(logits, dtype=torch.float32)
    targets[positives.row, positives.column] = positives.quality
    return (loss(logits, targets) * valid[:, None]).sum()
