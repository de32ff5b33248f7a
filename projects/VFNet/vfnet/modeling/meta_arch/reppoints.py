"""RepPoints, the detector: its losses, scores and boxes (https://arxiv.org/abs/1904.11490)."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import ImageList, Instances
from fvcore.nn import smooth_l1_loss
from torch import Tensor

from ...utils.whole_batch import of_whole_batch
from ..box_coding import points_to_boxes
from ..divergence import divergence_signs
from ..heads.reppoints import HeadOutput, RepPointsHead
from ..locations import flatten_levels
from ..losses.box import SMOOTH_L1_BETA, iou_and_giou
from ..losses.classification import Positives
from ..losses.normalisers import positives_of_batch
from ..matching.points import point_match_batch, refined_targets
from ..matching.targets import Targets
from .dense import LocationDetector


@META_ARCH_REGISTRY.register()
class RepPoints(LocationDetector):
    """RepPoints with boxes by moments; letters of shapes as in `LocationDetector`.

    Initial points learn the one box nearest them, refined points and classes by the IoU of the
    initial box. As in mmdet, losses are divided by numbers of this process alone.
    """

    @configurable
    def __init__(
        self,
        *,
        refined_box_loss_weight: float,
        base_scale: float,
        quality_min: float,
        **shared: Any,
    ):
        """As `LocationDetector`, whose `box_loss_weight` is the initial points'.

        `base_scale` strides are the unit of the box losses; `quality_min` is the least quality that
        a positive learns.
        """
        super().__init__(**shared)
        self.refined_box_loss_weight = refined_box_loss_weight
        self.base_scale = base_scale
        self.quality_min = quality_min

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        shared, reppoints = super().from_config(cfg), cfg.MODEL.REPPOINTS
        shapes = shared["backbone"].output_shape()
        scale = reppoints.POINT_BASE_SCALE
        return {
            **shared,
            "head": RepPointsHead(cfg, [shapes[name] for name in reppoints.IN_FEATURES]),
            "matcher": partial(point_match_batch, base_scale=scale),
            "refined_box_loss_weight": reppoints.REFINED_BOX_LOSS_WEIGHT,
            "base_scale": scale,
            "quality_min": reppoints.QUALITY_MIN,
        }

    def assign(
        self,
        images: ImageList,
        features: list[Tensor],
        predictions: HeadOutput,
        gt_instances: list[Instances],
        regions: Sequence[Tensor] = (),
    ) -> Targets:
        """What refined points and classes learn; the initial points' targets are its `initial`."""
        initial = super().assign(images, features, predictions, gt_instances, regions)
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            boxes = self._all_boxes(predictions, predictions.points, self.points(features))
        return refined_targets(initial, boxes, [gt.to(self.device) for gt in gt_instances])

    def prior_sides(self) -> list[float]:
        """Those of the smallest boxes that each level learns, `base_scale` strides."""
        return [self.base_scale * stride for stride in self.strides]

    def losses(
        self, predictions: HeadOutput, points: Tensor, targets: Targets
    ) -> dict[str, Tensor]:
        """`loss_cls`, `loss_points_init` and `loss_points_refined`.

        Without a box all but `loss_cls`, the background's, are 0 with a gradient.
        """
        assert targets.initial is not None
        units = self.location_strides(predictions) * self.base_scale  # (R, 1)

        def box_loss(offsets: list[Tensor], targets: Targets) -> tuple[Tensor, Tensor, Tensor]:
            location = targets.index % len(points)  # (P,)
            chosen = flatten_levels(offsets)[targets.index]  # (P, 18)
            boxes = self._boxes(predictions, chosen, points, location)
            pair = (boxes / units[location], targets.boxes / units[location])
            loss = smooth_l1_loss(*pair, SMOOTH_L1_BETA, reduction="sum")
            samples = positives_of_batch(targets.positives_of_images(len(points)))
            return loss, boxes.detach(), samples

        loss_init, _, samples_init = box_loss(predictions.points, targets.initial)
        loss_refined, boxes, samples = box_loss(predictions.refined_points, targets)
        # At a minimum of 0 a positive that misses its box is learnt as a negative, as in the
        # reference (quirk of parity).
        iou, _ = iou_and_giou(boxes, targets.boxes)
        quality = iou.clamp(min=self.quality_min)
        loss_cls = self.classification_loss(
            flatten_levels(predictions.logits),
            Positives(targets.index, targets.classes, quality),
            targets.valid,
        )
        num_pos = quality.new_full((), max(of_whole_batch(len(quality)), 1))
        signs = divergence_signs([*predictions.points, *predictions.refined_points], iou)
        self.record_positives(num_pos, of_whole_batch(quality.sum()), targets, signs)
        return {
            "loss_cls": loss_cls * self.cls_loss_weight / samples,
            "loss_points_init": loss_init * self.box_loss_weight / samples_init,
            "loss_points_refined": loss_refined * self.refined_box_loss_weight / samples,
        }

    def detected_boxes(self, predictions: HeadOutput, points: Tensor) -> Tensor:
        """The boxes of the refined points -> (N R, 4)."""
        return self._all_boxes(predictions, predictions.refined_points, points).flatten(0, 1)

    def _all_boxes(self, predictions: HeadOutput, offsets: list[Tensor], points: Tensor) -> Tensor:
        """Boxes of the offsets (N, 18, H, W) of all levels -> (N, R, 4)."""
        together = flatten_levels(offsets).unflatten(0, (-1, points.shape[0]))
        return self._boxes(predictions, together, points)

    def _boxes(
        self,
        predictions: HeadOutput,
        offsets: Tensor,
        points: Tensor,
        location: Tensor | slice = slice(None),
    ) -> Tensor:
        """Boxes (..., 4) of offsets (..., 18) at some of the points (R, 2), or all."""
        around = offsets.unflatten(-1, (-1, 2)).flip(-1)  # (..., 9, 2), x and y
        strides = self.location_strides(predictions)[location]
        return (
            points[location].repeat(1, 2)
            + points_to_boxes(around, predictions.log_scales) * strides
        )
