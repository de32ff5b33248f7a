"""The last layers of Faster R-CNN with balanced L1 loss."""

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads import FastRCNNOutputLayers
from torch import Tensor

from ..losses.box import balanced_l1_loss


class BalancedL1OutputLayers(FastRCNNOutputLayers):
    """Detectron2's, whose boxes learn by balanced L1 loss of their encoded differences."""

    @configurable
    def __init__(self, *, alpha: float, gamma: float, beta: float, **detectron2: Any):
        """`alpha`, `gamma`, `beta`: see `balanced_l1_loss`."""
        super().__init__(**detectron2)
        self.balanced_l1 = {"alpha": alpha, "gamma": gamma, "beta": beta}

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        node = cfg.MODEL.ROI_BOX_HEAD
        return {
            **super().from_config(cfg, input_shape),
            "alpha": node.BALANCED_L1_ALPHA,
            "gamma": node.BALANCED_L1_GAMMA,
            "beta": node.BALANCED_L1_BETA,
        }

    def box_reg_loss(
        self, proposal_boxes: Tensor, gt_boxes: Tensor, pred_deltas: Tensor, gt_classes: Tensor
    ) -> Tensor:
        """The sum over positives, divided by the number of all sampled RoIs, as Detectron2's.

        Args:
            proposal_boxes, gt_boxes: (R, 4).
            pred_deltas: (R, 4), or (R, 4 K) where each class has its own.
            gt_classes: (R,), K for background.
        """
        positive = ((gt_classes >= 0) & (gt_classes < self.num_classes)).nonzero().squeeze(1)
        deltas = pred_deltas.unflatten(1, (-1, 4))
        of_class = gt_classes[positive] if deltas.shape[1] > 1 else torch.zeros_like(positive)
        targets = self.box2box_transform.get_deltas(proposal_boxes[positive], gt_boxes[positive])
        loss = balanced_l1_loss(deltas[positive, of_class], targets, **self.balanced_l1)
        return loss.sum() / max(len(gt_classes), 1)
