"""ATSS, the detector: its losses, scores and boxes (https://arxiv.org/abs/1912.02424)."""

from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor
from torch.nn import functional as F

from ..box_coding import boxes_to_distances, deltas_to_boxes, square_boxes
from ..divergence import divergence_signs
from ..heads.atss import ATSSHead, HeadOutput
from ..locations import flatten_levels
from ..losses.box import centerness, iou_and_giou
from ..losses.classification import Positives
from ..losses.normalisers import count_positives, means_over_processes
from ..matching.targets import Targets
from .square_anchors import SquareAnchorDetector


@META_ARCH_REGISTRY.register()
class ATSS(SquareAnchorDetector):
    """ATSS with a centerness branch or without; letters of shapes as in `LocationDetector`.

    A positive weighs in the box loss as much as its target of centerness; without that branch all
    weigh the same. The quality that varifocal and quality focal loss learn is the IoU of the box.
    """

    varifocal_everywhere = True

    @configurable
    def __init__(self, *, centerness_loss_weight: float, **shared: Any):
        """
        Args:
            centerness_loss_weight: factor of its loss.
            shared: see `SquareAnchorDetector`.
        """
        super().__init__(**shared)
        self.centerness_loss_weight = centerness_loss_weight

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        shared, atss = super().from_config(cfg), cfg.MODEL.ATSS
        shapes = shared["backbone"].output_shape()
        return {
            **shared,
            "head": ATSSHead(cfg, [shapes[name] for name in atss.IN_FEATURES]),
            "centerness_loss_weight": atss.CENTERNESS_LOSS_WEIGHT,
        }

    def losses(
        self, predictions: HeadOutput, points: Tensor, targets: Targets
    ) -> dict[str, Tensor]:
        """`loss_cls`, `loss_box` and, where there is that branch, `loss_centerness`.

        Without a box all but `loss_cls`, the background's, are 0 with a gradient.
        """
        location = targets.index % len(points)  # (P,)
        anchors = self._anchors(predictions, points)[location]
        boxes = deltas_to_boxes(flatten_levels(predictions.deltas)[targets.index], anchors)
        iou, giou = iou_and_giou(boxes, targets.boxes)
        quality = iou.detach().clamp(min=1e-6)  # 0 would turn a positive into a negative
        loss_cls = self.classification_loss(
            flatten_levels(predictions.logits),
            Positives(targets.index, targets.classes, quality),
            targets.valid,
            targets.ignored,
        )
        weights = centerness(boxes_to_distances(points[location], targets.boxes))  # (P,)

        num_positive = count_positives(targets.positives_of_images(len(points)))
        means = means_over_processes(num_positive, [weights, quality])
        positives, weight_sum = means[:2].clamp(min=1)  # without a box both are 0
        signs = divergence_signs(predictions.deltas, iou)
        self.record_positives(positives, means[2], targets, signs)
        losses = {"loss_cls": loss_cls * self.cls_loss_weight / positives}
        if not predictions.centerness:
            losses["loss_box"] = (1 - giou).sum() * self.box_loss_weight / positives
            return losses
        losses["loss_box"] = (weights * (1 - giou)).sum() * self.box_loss_weight / weight_sum
        logits = flatten_levels(predictions.centerness)[targets.index, 0].float()
        loss_centerness = F.binary_cross_entropy_with_logits(logits, weights, reduction="sum")
        losses["loss_centerness"] = loss_centerness * self.centerness_loss_weight / positives
        return losses

    def score_factor(self, predictions: HeadOutput) -> Tensor | None:
        """The predicted centerness -> (N R,); None without that branch."""
        if not predictions.centerness:
            return None
        return flatten_levels(predictions.centerness)[:, 0].float().sigmoid()

    def detected_boxes(self, predictions: HeadOutput, points: Tensor) -> Tensor:
        """The boxes of all locations' anchors, moved by their deltas -> (N R, 4)."""
        deltas = flatten_levels(predictions.deltas)
        anchors = self._anchors(predictions, points).repeat(deltas.shape[0] // points.shape[0], 1)
        return deltas_to_boxes(deltas, anchors)

    def _anchors(self, predictions: HeadOutput, points: Tensor) -> Tensor:
        """The square anchor of each location -> (R, 4), x1, y1, x2, y2 in pixels."""
        strides = self.location_strides(predictions)
        return square_boxes(points, strides * self.anchor_scale / 2)
