"""Losses of boxes that are predicted as deltas of anchors, by the name of BBOX_REG_LOSS_TYPE."""

from collections.abc import Callable
from functools import partial

from detectron2.layers import ciou_loss, diou_loss
from detectron2.modeling.box_regression import Box2BoxTransform
from fvcore.nn import giou_loss, smooth_l1_loss
from torch import Tensor

from ...errors import UserError
from ..box_coding import deltas_to_boxes
from .box import balanced_l1_loss

# Deltas, their anchors and the ground-truth boxes, all (P, 4) -> the sum of the P losses.
DeltaLoss = Callable[[Tensor, Tensor, Tensor], Tensor]


def build_delta_loss(
    name: str,
    *,
    prefix: str,
    weights: tuple[float, ...],
    smooth_l1_beta: float,
    balanced_l1: tuple[float, float, float],
) -> DeltaLoss:
    """The loss that BBOX_REG_LOSS_TYPE names: one of Detectron2's, or "balanced_l1".

    Args:
        name: "smooth_l1" or "balanced_l1", which compare deltas, or "giou", "diou" or "ciou", which
            compare boxes.
        prefix: of the key, for messages, such as "MODEL.RETINANET".
        weights: of the deltas, see `Box2BoxTransform`.
        smooth_l1_beta: 0 is L1.
        balanced_l1: alpha, gamma and beta of `balanced_l1_loss`.
    """
    alpha, gamma, beta = balanced_l1
    of_deltas = {
        "smooth_l1": partial(smooth_l1_loss, beta=smooth_l1_beta),
        "balanced_l1": partial(balanced_l1_loss, alpha=alpha, gamma=gamma, beta=beta),
    }
    of_boxes = {"giou": giou_loss, "diou": diou_loss, "ciou": ciou_loss}
    if name in of_deltas:
        return partial(_loss_sum, of_deltas[name], weights, of_deltas=True)
    if name in of_boxes:
        return partial(_loss_sum, of_boxes[name], weights, of_deltas=False)
    raise UserError(
        f"{prefix}.BBOX_REG_LOSS_TYPE must be one of {', '.join([*of_deltas, *of_boxes])}, "
        f"got {name!r}"
    )


def _loss_sum(
    loss: Callable[[Tensor, Tensor], Tensor],
    weights: tuple[float, ...],
    deltas: Tensor,
    anchors: Tensor,
    boxes: Tensor,
    of_deltas: bool,
) -> Tensor:
    deltas = deltas.float()
    if of_deltas:
        return loss(deltas, Box2BoxTransform(weights).get_deltas(anchors, boxes)).sum()
    return loss(deltas_to_boxes(deltas, anchors, weights), boxes).sum()
