"""Detectron2's RetinaNet with mmdet's training and any classification loss."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, RetinaNet
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor

from ...config import check_class_names
from ...utils.whole_batch import of_whole_batch
from ..box_coding import deltas_to_boxes
from ..divergence import divergence_signs
from ..inference.candidates import best_pairs
from ..inference.suppression import nms
from ..locations import flatten_levels, level_sizes
from ..losses.box import iou_and_giou
from ..losses.box_deltas import DeltaLoss, build_delta_loss
from ..losses.classification import ClassificationLoss, Positives
from ..losses.normalisers import Normaliser, build_normaliser
from ..matching.anchors import assign_anchors
from ..matching.ignored import in_ignored_regions
from ..matching.max_iou import build_max_iou_matcher
from ..matching.targets import Targets
from .candidates import CandidateDetector, Decoded
from .dense import classification_loss_of


@META_ARCH_REGISTRY.register()
class QualityRetinaNet(CandidateDetector, RetinaNet):
    """RetinaNet (https://arxiv.org/abs/1708.02002) whose scores may learn the IoU of the box.

    Network, keys and names of losses are Detectron2's. As in mmdet, anchors are matched by
    `max_iou_match`, those in an image's padding take no part, and boxes are clipped to the image
    before suppression. A positive whose box misses its ground truth has the IoU 0, which varifocal
    and quality focal loss take for background, unless `quality_min` is above 0.

    Naming convention: N = images, A = anchors of all levels, K = classes, P = positives.
    """

    @configurable
    def __init__(
        self,
        *,
        classification_loss: ClassificationLoss,
        cls_loss_weight: float,
        box_loss: DeltaLoss,
        normaliser: Normaliser,
        quality_min: float,
        ignore_iof_thresh: float = -1.0,
        **detectron2: Any,
    ):
        """
        Args:
            classification_loss, box_loss, normaliser: see what builds them.
            cls_loss_weight: factor of `loss_cls`.
            quality_min: the least quality that a positive learns.
            ignore_iof_thresh: anchors take part in no loss where an ignored region covers more
                than this share of them; below 0: all take part.
            detectron2: see `RetinaNet`; its `anchor_matcher` is a `max_iou_match`.
        """
        super().__init__(**detectron2)
        self.classification_loss = classification_loss
        self.cls_loss_weight = cls_loss_weight
        self.box_loss = box_loss
        self.normaliser = normaliser
        self.quality_min = quality_min
        self.ignore_iof_thresh = ignore_iof_thresh
        self.candidate_rule = partial(
            best_pairs, score_threshold=self.test_score_thresh, topk=self.test_topk_candidates
        )
        self.suppression = partial(
            nms, iou_threshold=self.test_nms_thresh, max_detections=self.max_detections_per_image
        )

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        node, prefix = cfg.MODEL.RETINANET, "MODEL.RETINANET"
        check_class_names(cfg)
        matcher = build_max_iou_matcher(node.IOU_THRESHOLDS, node.IOU_LABELS, prefix=prefix)
        return {
            **super().from_config(cfg),
            "anchor_matcher": matcher,
            "classification_loss": classification_loss_of(
                node, prefix, node.FOCAL_LOSS_ALPHA, node.FOCAL_LOSS_GAMMA
            ),
            "cls_loss_weight": node.CLS_LOSS_WEIGHT,
            "box_loss": build_delta_loss(
                node.BBOX_REG_LOSS_TYPE,
                prefix=prefix,
                weights=node.BBOX_REG_WEIGHTS,
                smooth_l1_beta=node.SMOOTH_L1_LOSS_BETA,
                balanced_l1=(node.BALANCED_L1_ALPHA, node.BALANCED_L1_GAMMA, node.BALANCED_L1_BETA),
            ),
            "normaliser": build_normaliser(node.LOSS_NORMALIZER, prefix=prefix),
            "quality_min": node.QUALITY_MIN,
            "ignore_iof_thresh": node.IGNORE_IOF_THRESH,
        }

    def priors(self, features: list[Tensor]) -> Tensor:
        """The anchors of all levels -> (A, 4)."""
        return Boxes.cat(self.anchor_generator(features)).tensor

    def assign(
        self,
        images: ImageList,
        features: list[Tensor],
        predictions: Any,
        gt_instances: list[Instances],
        regions: Sequence[Tensor] = (),
    ) -> Targets:
        """What each anchor of the batch learns; the predictions play no part."""
        anchors, ignored = self.priors(features), None
        if self.ignore_iof_thresh >= 0:
            ignored = in_ignored_regions(regions, anchors, self.ignore_iof_thresh)
        return assign_anchors(
            [gt.to(self.device) for gt in gt_instances],
            anchors,
            images.image_sizes,
            level_sizes(features),
            self.anchor_generator.strides,
            self.backbone.size_divisibility,
            self.anchor_matcher,
            ignored,
        )

    def losses(self, predictions: Any, anchors: Tensor, targets: Targets) -> dict[str, Tensor]:
        """Compare predictions at `anchors` (A, 4) with targets -> `loss_cls`, `loss_box_reg`.

        Without a box all but `loss_cls`, the background's, are 0 with a gradient.
        """
        logits, deltas = self._flatten(predictions)
        own_anchors, own_deltas = anchors[targets.index % len(anchors)], deltas[targets.index]
        iou, _ = iou_and_giou(self._boxes(own_deltas.detach(), own_anchors), targets.boxes)
        quality = iou.clamp(min=self.quality_min)
        positives = Positives(targets.index, targets.classes, quality)
        loss_cls = self.classification_loss(logits, positives, targets.valid)
        loss_box = self.box_loss(own_deltas, own_anchors, targets.boxes)
        num_pos = targets.positives_of_images(len(anchors))  # (N,)
        number = of_whole_batch(num_pos.sum()).clamp(min=1)
        signs = divergence_signs(predictions[1], iou)
        self.record_positives(number, of_whole_batch(quality.sum()), targets, signs)
        normaliser = self.normaliser(num_pos)
        return {
            "loss_cls": loss_cls * self.cls_loss_weight / normaliser,
            "loss_box_reg": loss_box / normaliser,
        }

    def decode(self, features: list[Tensor], predictions: Any) -> Decoded:
        """The scores and boxes of all anchors."""
        logits, deltas = self._flatten(predictions)
        anchors = self.priors(features).repeat(len(features[0]), 1)
        return Decoded(logits.float().sigmoid(), self._boxes(deltas, anchors))

    def level_counts(self, features: list[Tensor]) -> list[int]:
        """Anchors of each level."""
        anchors = self.anchor_generator.num_anchors[0]
        return [count * anchors for count in super().level_counts(features)]

    def _flatten(self, predictions: Any) -> tuple[Tensor, Tensor]:
        """The head's levels -> logits (N A, K) and deltas (N A, 4), image by image."""
        logits, deltas = (flatten_levels(levels) for levels in predictions)
        return logits.view(-1, self.num_classes), deltas.view(-1, 4)

    def _boxes(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        return deltas_to_boxes(deltas.float(), anchors, self.box2box_transform.weights)
