"""The head of ATSS (https://arxiv.org/abs/1912.02424), shared by all pyramid levels."""

from typing import Any, NamedTuple

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from .towers import TwoTowerHead, level_scales


class HeadOutput(NamedTuple):
    """What the head predicts, a tensor for each level.

    logits: (N, K, H, W), one score a class, before the sigmoid.
    deltas: (N, 4, H, W) float32, of the location's anchor: see `deltas_to_boxes`.
    centerness: (N, 1, H, W), before the sigmoid; an empty list without that branch.
    """

    logits: list[Tensor]
    deltas: list[Tensor]
    centerness: list[Tensor]


class ATSSHead(TwoTowerHead):
    """Two towers; scores from one, boxes and centerness from the other."""

    @configurable
    def __init__(self, *, num_classes: int, prior_prob: float, centerness: bool, **towers: Any):
        """
        Args:
            prior_prob: foreground probability that the class layer's bias starts from.
            centerness: whether it has that branch.
            towers: see `TwoTowerHead`.
        """
        super().__init__(**towers)
        self.cls_pred = nn.Conv2d(self.tower_channels, num_classes, 3, padding=1)
        self.delta_pred = nn.Conv2d(self.tower_channels, 4, 3, padding=1)
        if centerness:
            self.centerness_pred = nn.Conv2d(self.tower_channels, 1, 3, padding=1)
        self.centerness = centerness
        self.box_scales = level_scales(len(self.strides))
        self.init_layers(prior_prob)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict[str, Any]:
        return {
            **super().from_config(cfg, input_shape),
            "centerness": cfg.MODEL.ATSS.CENTERNESS,
        }

    def forward(self, features: list[Tensor]) -> HeadOutput:
        """Predict from the levels' features, (N, C, H, W) each."""
        output = HeadOutput([], [], [])
        for feature, scale in zip(features, self.box_scales):
            cls_feature, box_feature = self.towers(feature)
            output.logits.append(self.cls_pred(cls_feature))
            output.deltas.append(scale * self.delta_pred(box_feature).float())
            if self.centerness:
                output.centerness.append(self.centerness_pred(box_feature))
        return output
