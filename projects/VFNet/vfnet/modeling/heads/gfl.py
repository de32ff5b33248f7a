"""The head of GFL and GFLv2, shared by all pyramid levels.

GFL: https://arxiv.org/abs/2006.04388. GFLv2: https://arxiv.org/abs/2011.12885.
"""

from typing import Any, NamedTuple

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from ...errors import UserError
from .towers import TwoTowerHead, level_scales


class HeadOutput(NamedTuple):
    """What the head predicts, a tensor for each level.

    logits: (N, K, H, W), one score a class, before the sigmoid.
    distributions: (N, 4 B, H, W) float32, logits of the B bins of left, top, right and bottom.
    qualities: (N, 1, H, W), before the sigmoid; an empty list without a quality predictor.
    """

    logits: list[Tensor]
    distributions: list[Tensor]
    qualities: list[Tensor]


class QualityPredictor(nn.Sequential):
    """How sure the four distributions are -> one number a location (GFLv2, section 3.2)."""

    def __init__(self, topk: int, channels: int, add_mean: bool):
        """
        Args:
            topk: of each side the so many highest probabilities are read.
            channels: of the hidden layer.
            add_mean: also read their mean.
        """
        inputs = 4 * (topk + 1 if add_mean else topk)
        super().__init__(nn.Conv2d(inputs, channels, 1), nn.ReLU(), nn.Conv2d(channels, 1, 1))
        self.topk = topk
        self.add_mean = add_mean

    def forward(self, distributions: Tensor) -> Tensor:
        """From logits (N, 4 B, H, W) to (N, 1, H, W), before the sigmoid."""
        probabilities = distributions.unflatten(1, (4, -1)).softmax(dim=2)
        statistics = probabilities.topk(self.topk, dim=2).values
        if self.add_mean:
            statistics = torch.cat((statistics, statistics.mean(dim=2, keepdim=True)), dim=2)
        return super().forward(statistics.flatten(1, 2))


class GFLHead(TwoTowerHead):
    """Two towers; scores from one, a distribution for each side of the box from the other."""

    @configurable
    def __init__(
        self,
        *,
        num_classes: int,
        prior_prob: float,
        reg_max: int,
        quality_predictor: QualityPredictor | None = None,
        **towers: Any,
    ):
        """
        Args:
            prior_prob: foreground probability that the class layer's bias starts from.
            reg_max: the largest distance that a side can have, in strides.
            quality_predictor: of GFLv2.
            towers: see `TwoTowerHead`.
        """
        super().__init__(**towers)
        self.cls_pred = nn.Conv2d(self.tower_channels, num_classes, 3, padding=1)
        self.distribution_pred = nn.Conv2d(self.tower_channels, 4 * (reg_max + 1), 3, padding=1)
        self.box_scales = level_scales(len(self.strides))
        self.quality = quality_predictor
        # What the bins stand for, in strides; in checkpoints, as in the reference's.
        self.register_buffer("bins", torch.arange(reg_max + 1, dtype=torch.float32))
        self.init_layers(prior_prob)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict[str, Any]:
        gfl, quality = cfg.MODEL.GFL, cfg.MODEL.GFL.QUALITY_PREDICTOR
        if gfl.REG_MAX < 1:
            raise UserError(f"MODEL.GFL.REG_MAX must be 1 or more, got {gfl.REG_MAX}")
        if quality.ENABLED and not 1 <= quality.TOPK <= gfl.REG_MAX + 1:
            raise UserError(
                f"MODEL.GFL.QUALITY_PREDICTOR.TOPK must be 1 to {gfl.REG_MAX + 1}, the number of "
                f"bins, got {quality.TOPK}"
            )
        predictor = None
        if quality.ENABLED:
            predictor = QualityPredictor(quality.TOPK, quality.CHANNELS, quality.ADD_MEAN)
        return {
            **super().from_config(cfg, input_shape),
            "reg_max": gfl.REG_MAX,
            "quality_predictor": predictor,
        }

    def forward(self, features: list[Tensor]) -> HeadOutput:
        """Predict from the levels' features, (N, C, H, W) each."""
        output = HeadOutput([], [], [])
        for feature, scale in zip(features, self.box_scales):
            cls_feature, box_feature = self.towers(feature)
            output.logits.append(self.cls_pred(cls_feature))
            distributions = scale * self.distribution_pred(box_feature).float()
            output.distributions.append(distributions)
            if self.quality is not None:
                output.qualities.append(self.quality(distributions))
        return output
