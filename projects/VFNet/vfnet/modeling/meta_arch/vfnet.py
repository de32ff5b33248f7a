"""VFNet, the detector: its losses, scores and boxes (https://arxiv.org/abs/2008.13367)."""

from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor

from ...utils.whole_batch import of_whole_batch
from ..box_coding import distances_to_boxes
from ..divergence import divergence_signs
from ..heads.vfnet import HeadOutput, VFNetHead
from ..locations import flatten_levels
from ..losses.box import iou_weighted_giou_loss
from ..losses.classification import Positives
from ..losses.normalisers import means_over_processes
from ..matching.targets import Targets
from .square_anchors import SquareAnchorDetector


@META_ARCH_REGISTRY.register()
class VFNet(SquareAnchorDetector):
    """VarifocalNet; letters of shapes as in `LocationDetector`."""

    varifocal_everywhere = True

    @configurable
    def __init__(self, *, refined_box_loss_weight: float, **shared: Any):
        """As `SquareAnchorDetector`, whose `box_loss_weight` is the initial box's."""
        super().__init__(**shared)
        self.refined_box_loss_weight = refined_box_loss_weight

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        shared, vfnet = super().from_config(cfg), cfg.MODEL.VFNET
        shapes = shared["backbone"].output_shape()
        return {
            **shared,
            "head": VFNetHead(cfg, [shapes[name] for name in vfnet.IN_FEATURES]),
            "refined_box_loss_weight": vfnet.REFINED_BOX_LOSS_WEIGHT,
        }

    def losses(
        self, predictions: HeadOutput, points: Tensor, targets: Targets
    ) -> dict[str, Tensor]:
        """`loss_cls`, `loss_box_init` and, where boxes are refined, `loss_box_refined`.

        Without a box all but `loss_cls`, the background's, are 0 with a gradient.
        """
        positive_points = points[targets.index % len(points)]  # (P, 2)

        def box_loss(distances: list[Tensor]) -> tuple[Tensor, Tensor]:
            positive = flatten_levels(distances)[targets.index]  # (P, 4)
            boxes = distances_to_boxes(positive_points, positive)
            return iou_weighted_giou_loss(boxes, targets.boxes)

        box_losses = {"loss_box_init": box_loss(predictions.distances)}
        if predictions.refined_distances:
            box_losses["loss_box_refined"] = box_loss(predictions.refined_distances)
        ious = [iou for _, iou in box_losses.values()]  # the last one is the detections'

        logits = flatten_levels(predictions.logits)  # (N R, K)
        positives = Positives(targets.index, targets.classes, ious[-1])
        loss_cls = self.classification_loss(logits, positives, targets.valid, targets.ignored)

        means = means_over_processes(len(targets.index), ious)
        normalisers = means.clamp(min=1.0)  # a batch without a box has sums of 0 to divide
        names = ("num_pos", "gts_without_positive", "mean_iou_initial", "mean_iou_refined")
        missed = of_whole_batch(targets.gts_without_positive)
        values = (means[0], missed, *(means[1:] / normalisers[0]))
        signs = divergence_signs(predictions.raw_boxes, ious[-1])
        self.record({**dict(zip(names, values)), **signs})

        weights = (self.box_loss_weight, self.refined_box_loss_weight)
        losses = {"loss_cls": loss_cls * self.cls_loss_weight / normalisers[0]}
        for (name, (loss, _)), weight, normaliser in zip(
            box_losses.items(), weights, normalisers[1:]
        ):
            losses[name] = loss * weight / normaliser
        return losses

    def detected_boxes(self, predictions: HeadOutput, points: Tensor) -> Tensor:
        """The refined box, or the initial one where boxes are not refined -> (N R, 4)."""
        distances = flatten_levels(predictions.refined_distances or predictions.distances)
        boxes = distances_to_boxes(points, distances.unflatten(0, (-1, points.shape[0])))
        return boxes.flatten(0, 1)
