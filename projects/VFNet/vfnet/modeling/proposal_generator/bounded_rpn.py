"""Detectron2's RPN that learns as mmdet's, with a bound of negatives (Libra R-CNN's config)."""

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.proposal_generator import PROPOSAL_GENERATOR_REGISTRY, RPN
from detectron2.structures import Boxes, Instances, pairwise_iou
from detectron2.utils.memory import retry_if_cuda_oom
from torch import Tensor

from ...errors import UserError
from ..locations import padded_size
from ..matching.max_iou import build_max_iou_matcher


@PROPOSAL_GENERATOR_REGISTRY.register()
class BoundedRPN(RPN):
    """RPN with at most so many negatives for each positive; names and proposals are Detectron2's.

    It differs in what it learns, as mmdet's does:

    - an anchor that is the best one of a box learns this box if its IoU reaches the lower threshold
      (`max_iou_match`), where Detectron2's learns, whatever the IoU, the box that it overlaps most;
    - anchors in the padding outside an image's own size take no part;
    - losses are divided by the number of sampled anchors, where Detectron2's are divided by
      RPN.BATCH_SIZE_PER_IMAGE times the images: with the bound these are far apart.
    """

    @configurable
    def __init__(
        self, *, negatives_per_positive: float = 0, size_divisibility: int = 32, **detectron2: Any
    ):
        """
        Args:
            negatives_per_positive: an image without positives counts as if it had one; 0: no bound.
            size_divisibility: what an image's own size is rounded up to, in pixels.
            detectron2: see `RPN`.

        Raises:
            UserError: a negative bound.
        """
        super().__init__(**detectron2)
        if negatives_per_positive < 0:
            raise UserError(
                "MODEL.RPN.NEGATIVES_PER_POSITIVE must be 0 (no bound) or more, "
                f"got {negatives_per_positive}"
            )
        self.negatives_per_positive = negatives_per_positive
        self.size_divisibility = size_divisibility

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        rpn = cfg.MODEL.RPN
        low = rpn.IOU_THRESHOLDS[0]
        # First, since Detectron2's own matcher fails of wrong thresholds without a message.
        matcher = build_max_iou_matcher(
            rpn.IOU_THRESHOLDS, rpn.IOU_LABELS, prefix="MODEL.RPN", best_from=low
        )
        return {
            **super().from_config(cfg, input_shape),
            "anchor_matcher": matcher,
            "negatives_per_positive": rpn.NEGATIVES_PER_POSITIVE,
        }

    def _subsample_labels(self, label: Tensor) -> Tensor:
        """As Detectron2's, and of its negatives those beyond the bound left out at random."""
        label = super()._subsample_labels(label)
        if self.negatives_per_positive:
            num_positives = int((label == 1).sum())
            bound = int(self.negatives_per_positive * max(num_positives, 1))
            negative = (label == 0).nonzero().squeeze(1)
            order = torch.randperm(len(negative), device=label.device)
            label[negative[order[bound:]]] = -1
        return label

    @torch.no_grad()
    def label_and_sample_anchors(
        self, anchors: list[Boxes], gt_instances: list[Instances]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """As Detectron2's: for each image labels (R,) of -1, 0, 1 and boxes to learn (R, 4)."""
        all_anchors = Boxes.cat(anchors)
        labels, boxes = [], []
        for gt in gt_instances:
            own = self._own_anchors(all_anchors, gt.image_size).nonzero().squeeze(1)
            ious = retry_if_cuda_oom(pairwise_iou)(gt.gt_boxes, all_anchors[own])
            gt_index, own_labels = retry_if_cuda_oom(self.anchor_matcher)(ious)
            label = torch.full((len(all_anchors),), -1, dtype=torch.int8, device=own.device)
            label[own] = own_labels.to(own.device)
            labels.append(self._subsample_labels(label))
            box = torch.zeros_like(all_anchors.tensor)
            if len(gt):
                box[own] = gt.gt_boxes.tensor[gt_index.to(own.device)]
            boxes.append(box)
        return labels, boxes

    def _own_anchors(self, anchors: Boxes, image_size: tuple[int, int]) -> Tensor:
        """Whether anchors stand in the image, padded for itself alone -> (R,) bool."""
        height, width = padded_size(image_size, self.size_divisibility)
        x, y = anchors.get_centers().unbind(dim=1)
        # Centres are whole pixels but for rounding: see AnchorGenerator, OFFSET 0.
        return (x < width - 0.5) & (y < height - 0.5)

    def losses(
        self,
        anchors: list[Boxes],
        pred_objectness_logits: list[Tensor],
        gt_labels: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        gt_boxes: list[Tensor],
    ) -> dict[str, Tensor]:
        """As Detectron2's, divided by the number of sampled anchors.

        In it each image counts at least one positive and one negative, as in mmdet.
        """
        losses = super().losses(
            anchors, pred_objectness_logits, gt_labels, pred_anchor_deltas, gt_boxes
        )
        labels = torch.stack(gt_labels)
        sampled = sum((labels == value).sum(dim=1).clamp(min=1).sum() for value in (0, 1))
        factor = self.batch_size_per_image * len(gt_labels) / sampled
        return {name: loss * factor for name, loss in losses.items()}
