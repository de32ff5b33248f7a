"""The head of VFNet, shared by all pyramid levels (paper, section 3.3 to 3.5). No loss in it."""

from typing import NamedTuple

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import UserError
from ...layers.fast_conv import use_fast_convolutions
from ...layers.gather_conv import sampling_points
from ...layers.star_conv import StarDeformConv, kernel_runs, star_offsets
from .towers import (
    bias_of_prior,
    build_tower,
    common_channels,
    conv_norm_relu,
    init_convolutions,
    level_scales,
)

# exp() of the raw box output is a distance in units of 8 strides: the upper end of the level's
# regression range in FCOS, from 64 pixels on P3 to 1024 on P7.
DISTANCE_UNIT = 8

# The raw output is bounded before exp(): e^10 units are 1.4 million pixels already on P3, far
# outside any image, while two such factors (initial times refined) still square to an area that
# float32 holds. Unbounded, a diverging head overflows to an infinite area, whose GIoU is NaN.
MAX_RAW_DISTANCE = 10.0


class HeadOutput(NamedTuple):
    """What the head predicts, a tensor for each level.

    logits: (N, K, H, W), one IoU-aware score a class, before the sigmoid.
    distances: (N, 4, H, W) float32, left, top, right, bottom of the initial box in pixels.
    refined_distances: as `distances`, of the refined box; an empty list without refinement.
    """

    logits: list[Tensor]
    distances: list[Tensor]
    refined_distances: list[Tensor]


class VFNetHead(nn.Module):
    """Two towers, the initial box, star features at that box, the refined box and the score.

    `STAR_FEATURES` and `REFINE_BOX` are the switches of the paper's Table 3: without the star, a
    plain convolution stands in its place and there is no box to refine.
    """

    @configurable
    def __init__(
        self,
        *,
        in_channels: int,
        strides: list[int],
        num_classes: int,
        num_convs: int,
        conv_channels: int,
        norm: str,
        prior_prob: float,
        deform_last_conv: bool,
        star_features: bool,
        refine_box: bool,
        star_gradient_scale: float,
    ):
        """
        Args:
            in_channels, strides: channels of every level, and pixels a cell of each.
            num_convs, conv_channels, norm, deform_last_conv: of both towers, see `build_tower`.
            prior_prob: foreground probability that the class layer's bias starts from.
            star_gradient_scale: share of the gradient through the star's points into the box.
        """
        super().__init__()
        if refine_box and not star_features:
            raise UserError(
                "MODEL.VFNET.REFINE_BOX True needs MODEL.VFNET.STAR_FEATURES True: the box is "
                "refined from star features. Set REFINE_BOX False"
            )
        self.strides = strides
        self.star_gradient_scale = star_gradient_scale

        tower = (in_channels, conv_channels, num_convs, norm, deform_last_conv)
        tower_channels = conv_channels if num_convs > 0 else in_channels
        self.cls_tower = build_tower(*tower)
        self.box_tower = build_tower(*tower)
        self.box_conv = conv_norm_relu(tower_channels, conv_channels, norm)
        self.box_pred = nn.Conv2d(conv_channels, 4, 3, padding=1)
        self.box_scales = level_scales(len(strides))
        if star_features:
            self.cls_star = StarDeformConv(tower_channels, conv_channels, activation=F.relu)
        else:
            self.cls_conv = conv_norm_relu(tower_channels, conv_channels, norm)
        if refine_box:
            self.box_star = StarDeformConv(tower_channels, conv_channels, activation=F.relu)
            self.refine_pred = nn.Conv2d(conv_channels, 4, 3, padding=1)
            self.refine_scales = level_scales(len(strides))
        self.cls_pred = nn.Conv2d(conv_channels, num_classes, 3, padding=1)
        self.star_features = star_features
        self.refine_box = refine_box
        init_convolutions(self)
        nn.init.constant_(self.cls_pred.bias, bias_of_prior(prior_prob))
        use_fast_convolutions(self)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict:
        vfnet = cfg.MODEL.VFNET
        return {
            "in_channels": common_channels(input_shape, "MODEL.VFNET"),
            "strides": [shape.stride for shape in input_shape],
            "num_classes": vfnet.NUM_CLASSES,
            "num_convs": vfnet.NUM_CONVS,
            "conv_channels": vfnet.CONV_CHANNELS,
            "norm": vfnet.NORM,
            "prior_prob": vfnet.PRIOR_PROB,
            "deform_last_conv": vfnet.DEFORM_LAST_CONV,
            "star_features": vfnet.STAR_FEATURES,
            "refine_box": vfnet.REFINE_BOX,
            "star_gradient_scale": vfnet.STAR_GRADIENT_SCALE,
        }

    def forward(self, features: list[Tensor]) -> HeadOutput:
        """Predict from the levels' features, (N, C, H, W) each."""
        output = HeadOutput([], [], [])
        for level, (feature, stride) in enumerate(zip(features, self.strides)):
            cls_feature = self.cls_tower(feature)
            box_feature = self.box_tower(feature)

            raw = self.box_pred(self.box_conv(box_feature))
            distances = bounded_exp(raw, self.box_scales[level]) * (DISTANCE_UNIT * stride)
            output.distances.append(distances)
            if not self.star_features:
                output.logits.append(self.cls_pred(self.cls_conv(cls_feature)))
                continue

            offset = star_offsets(distances, stride, self.star_gradient_scale)
            # Both star convolutions of a level read at the same points.
            points = None if kernel_runs(feature) else sampling_points(offset)
            output.logits.append(self.cls_pred(self.cls_star(cls_feature, offset, points)))
            if self.refine_box:
                raw = self.refine_pred(self.box_star(box_feature, offset, points))
                factor = bounded_exp(raw, self.refine_scales[level])
                output.refined_distances.append(factor * distances.detach())
        return output


def bounded_exp(raw: Tensor, scale: Tensor) -> Tensor:
    """exp(scale * raw), float32, its exponent bounded by `MAX_RAW_DISTANCE` to either side."""
    return (scale * raw.float()).clamp(-MAX_RAW_DISTANCE, MAX_RAW_DISTANCE).exp()
