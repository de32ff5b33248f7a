"""The head of VFNet, shared by all pyramid levels (paper, section 3.3 to 3.5). No loss in it."""

from typing import Any, NamedTuple

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import UserError
from ...layers.star_conv import StarDeformConv, star_offsets, star_samples
from ..box_coding import bounded_exp
from .towers import TwoTowerHead, conv_norm_relu, level_scales

# exp() of the raw box output is a distance in units of 8 strides: the upper end of the level's
# regression range in FCOS, from 64 pixels on P3 to 1024 on P7.
DISTANCE_UNIT = 8


class HeadOutput(NamedTuple):
    """What the head predicts, a tensor for each level.

    logits: (N, K, H, W), one IoU-aware score a class, before the sigmoid.
    distances: (N, 4, H, W) float32, left, top, right, bottom of the initial box in pixels.
    refined_distances: as `distances`, of the refined box; an empty list without refinement.
    raw_boxes: (N, 4, H, W) of each layer of boxes, without a gradient, before it is scaled and
        bounded; an empty list where nothing is trained.
    """

    logits: list[Tensor]
    distances: list[Tensor]
    refined_distances: list[Tensor]
    raw_boxes: list[Tensor]


class VFNetHead(TwoTowerHead):
    """Two towers, the initial box, star features at that box, the refined box and the score.

    `STAR_FEATURES` and `REFINE_BOX` are the switches of the paper's Table 3: without the star, a
    plain convolution stands in its place and there is no box to refine.
    """

    @configurable
    def __init__(
        self,
        *,
        num_classes: int,
        prior_prob: float,
        star_features: bool,
        refine_box: bool,
        star_gradient_scale: float,
        **towers: Any,
    ):
        """
        Args:
            prior_prob: foreground probability that the class layer's bias starts from.
            star_gradient_scale: share of the gradient through the star's points into the box.
            towers: see `TwoTowerHead`.
        """
        if refine_box and not star_features:
            raise UserError(
                "MODEL.VFNET.REFINE_BOX True needs MODEL.VFNET.STAR_FEATURES True: the box is "
                "refined from star features. Set REFINE_BOX False"
            )
        super().__init__(**towers)
        self.star_gradient_scale = star_gradient_scale

        channels, norm = towers["conv_channels"], towers["norm"]
        self.box_conv = conv_norm_relu(self.tower_channels, channels, norm)
        self.box_pred = nn.Conv2d(channels, 4, 3, padding=1)
        self.box_scales = level_scales(len(self.strides))
        if star_features:
            self.cls_star = StarDeformConv(self.tower_channels, channels, activation=F.relu)
        else:
            self.cls_conv = conv_norm_relu(self.tower_channels, channels, norm)
        if refine_box:
            self.box_star = StarDeformConv(self.tower_channels, channels, activation=F.relu)
            self.refine_pred = nn.Conv2d(channels, 4, 3, padding=1)
            self.refine_scales = level_scales(len(self.strides))
        self.cls_pred = nn.Conv2d(channels, num_classes, 3, padding=1)
        self.star_features = star_features
        self.refine_box = refine_box
        self.init_layers(prior_prob)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict[str, Any]:
        vfnet = cfg.MODEL.VFNET
        return {
            **super().from_config(cfg, input_shape),
            "star_features": vfnet.STAR_FEATURES,
            "refine_box": vfnet.REFINE_BOX,
            "star_gradient_scale": vfnet.STAR_GRADIENT_SCALE,
        }

    def forward(self, features: list[Tensor]) -> HeadOutput:
        """Predict from the levels' features, (N, C, H, W) each."""
        output = HeadOutput([], [], [], [])
        for level, (feature, stride) in enumerate(zip(features, self.strides)):
            cls_feature, box_feature = self.towers(feature)
            raw = self.box_pred(self.box_conv(box_feature))
            self._keep(raw, output)
            distances = bounded_exp(raw, self.box_scales[level]) * (DISTANCE_UNIT * stride)
            output.distances.append(distances)
            if not self.star_features:
                output.logits.append(self.cls_pred(self.cls_conv(cls_feature)))
                continue

            offset = star_offsets(distances, stride, self.star_gradient_scale)
            # Both star convolutions of a level read at the same points.
            samples = star_samples(feature, offset)
            output.logits.append(self.cls_pred(self.cls_star(cls_feature, offset, samples)))
            if self.refine_box:
                raw = self.refine_pred(self.box_star(box_feature, offset, samples))
                self._keep(raw, output)
                factor = bounded_exp(raw, self.refine_scales[level])
                output.refined_distances.append(factor * distances.detach())
        return output

    def _keep(self, raw: Tensor, output: HeadOutput) -> None:
        if self.training:
            output.raw_boxes.append(raw.detach())
