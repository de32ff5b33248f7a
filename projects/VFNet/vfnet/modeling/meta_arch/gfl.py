"""GFL and GFLv2, the detectors: their losses, scores and boxes.

GFL: https://arxiv.org/abs/2006.04388. GFLv2: https://arxiv.org/abs/2011.12885.
"""

from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor

from ..box_coding import boxes_to_distances, distances_to_boxes, expected_distances
from ..divergence import divergence_signs
from ..heads.gfl import GFLHead, HeadOutput
from ..locations import flatten_levels
from ..losses.box import iou_and_giou
from ..losses.classification import Positives
from ..losses.distribution import distribution_focal_loss
from ..losses.normalisers import count_positives, means_over_processes
from ..matching.targets import Targets
from .square_anchors import SquareAnchorDetector

# The largest distance to learn stays below the last bin, so that there is a bin above it.
_BELOW_LAST_BIN = 0.1


@META_ARCH_REGISTRY.register()
class GFL(SquareAnchorDetector):
    """Generalised focal loss; letters of shapes as in `LocationDetector`, B = bins of a side.

    A positive weighs in the box losses as much as the highest of its scores. With a quality
    predictor, which is GFLv2, a score is the product of a class's probability and the quality.
    """

    @configurable
    def __init__(self, *, dfl_loss_weight: float, **shared: Any):
        """`dfl_loss_weight`: factor of distribution focal loss; see `SquareAnchorDetector`."""
        super().__init__(**shared)
        self.dfl_loss_weight = dfl_loss_weight

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        shared, gfl = super().from_config(cfg), cfg.MODEL.GFL
        shapes = shared["backbone"].output_shape()
        return {
            **shared,
            "head": GFLHead(cfg, [shapes[name] for name in gfl.IN_FEATURES]),
            "dfl_loss_weight": gfl.DFL_LOSS_WEIGHT,
        }

    @staticmethod
    def learns_probabilities(node: CfgNode) -> bool:
        """Those of GFLv2 are products."""
        return node.QUALITY_PREDICTOR.ENABLED

    def losses(
        self, predictions: HeadOutput, points: Tensor, targets: Targets
    ) -> dict[str, Tensor]:
        """`loss_cls`, `loss_box` and `loss_dfl`.

        Without a box all but `loss_cls`, the background's, are 0 with a gradient.
        """
        location = targets.index % len(points)  # (P,)
        distributions = flatten_levels(predictions.distributions)[targets.index]  # (P, 4 B)
        boxes = self._boxes(predictions, points, distributions, location)
        iou, giou = iou_and_giou(boxes, targets.boxes)
        is_v2 = bool(predictions.qualities)
        learnt = self.scores(predictions) if is_v2 else flatten_levels(predictions.logits)
        positives = Positives(targets.index, targets.classes, iou.detach())
        loss_cls = self.classification_loss(learnt, positives, targets.valid)

        best = learnt.detach()[targets.index].float().amax(dim=1)  # (P,)
        weights = best if is_v2 else best.sigmoid()
        loss_box = (weights * (1 - giou)).sum()
        strides = self.location_strides(predictions)[location]
        wanted = boxes_to_distances(points[location], targets.boxes) / strides  # (P, 4), strides
        wanted = wanted.clamp(min=0, max=len(self.head.bins) - 1 - _BELOW_LAST_BIN)
        loss_dfl = distribution_focal_loss(distributions.unflatten(1, (4, -1)), wanted)
        loss_dfl = (weights * loss_dfl.mean(dim=1)).sum()

        num_positive = count_positives(targets.positives_of_images(len(points)))
        means = means_over_processes(num_positive, [weights, iou.detach()])
        num_pos, weight_sum = means[:2].clamp(min=1)  # without a box both are 0
        signs = divergence_signs(predictions.distributions, iou)
        self.record_positives(num_pos, means[2], targets, signs)
        return {
            "loss_cls": loss_cls * self.cls_loss_weight / num_pos,
            "loss_box": loss_box * self.box_loss_weight / weight_sum,
            "loss_dfl": loss_dfl * self.dfl_loss_weight / weight_sum,
        }

    def scores(self, predictions: HeadOutput) -> Tensor:
        """The classification scores, times the quality where that is predicted -> (N R, K)."""
        scores = super().scores(predictions)
        if predictions.qualities:
            scores = scores * flatten_levels(predictions.qualities).float().sigmoid()
        return scores

    def detected_boxes(self, predictions: HeadOutput, points: Tensor) -> Tensor:
        """The boxes of the expected distances -> (N R, 4)."""
        distributions = flatten_levels(predictions.distributions).unflatten(
            0, (-1, points.shape[0])
        )
        return self._boxes(predictions, points, distributions).flatten(0, 1)

    def _boxes(
        self,
        predictions: HeadOutput,
        points: Tensor,
        distributions: Tensor,
        location: Tensor | slice = slice(None),
    ) -> Tensor:
        """Boxes (..., 4) of distributions (..., 4 B) at some of the points (R, 2), or all."""
        distances = expected_distances(distributions, self.head.bins)
        strides = self.location_strides(predictions)[location]
        return distances_to_boxes(points[location], distances * strides)
