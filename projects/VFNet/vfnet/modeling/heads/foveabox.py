"""The head of FoveaBox (https://arxiv.org/abs/1904.03797), shared by all pyramid levels."""

from typing import Any, NamedTuple

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn
from torch.nn import functional as F

from ...layers.conv_norm import conv_with_norm
from ...layers.deform_conv import AnyDeviceDeformConvV1
from ...utils.precision import without_autocast
from ..box_coding import bounded_exp
from .towers import TwoTowerHead, conv_norm_relu

# Channels of the class tower of the aligned form, in those of a box tower.
_ALIGNED_WIDTH = 4


class HeadOutput(NamedTuple):
    """What the head predicts, a tensor for each level.

    logits: (N, K, H, W), one score a class, before the sigmoid.
    log_distances: (N, 4, H, W) float32, logarithms of left, top, right and bottom in base edges.
    """

    logits: list[Tensor]
    log_distances: list[Tensor]


class BoxAlignment(AnyDeviceDeformConvV1):
    """Features read where the predicted box lies, which its distances say (paper, section 3.6).

    A 3x3 deformable convolution and a ReLU; each of four groups of channels has its own points.
    """

    def __init__(self, in_channels: int, channels: int, groups: int = 4):
        super().__init__(
            in_channels, channels, 3, padding=1, deformable_groups=groups, activation=F.relu
        )
        self.offset = nn.Conv2d(4, 18 * groups, 1, bias=False)
        nn.init.normal_(self.offset.weight, std=0.1)
        nn.init.normal_(self.weight, std=0.01)

    def forward(self, x: Tensor, distances: Tensor) -> Tensor:
        """Convolve x (N, C, H, W) by distances (N, 4, H, W), in base edges -> (N, Cout, H, W)."""
        with without_autocast(x.device.type):  # half precision would move the points
            offset = self.offset(distances.float())
        return super().forward(x, offset)


class FoveaBoxHead(TwoTowerHead):
    """Two towers, scores and distances; aligned, the class tower starts from the box's features."""

    @configurable
    def __init__(self, *, num_classes: int, prior_prob: float, align: bool, **towers: Any):
        """
        Args:
            prior_prob: foreground probability that the class layer's bias starts from.
            align: the class tower is a wide one of two layers, on aligned features; `num_convs` and
                `deform_last_conv` are then the box tower's alone.
            towers: see `TwoTowerHead`.
        """
        super().__init__(**towers)
        cls_channels = self.tower_channels
        if align:
            channels, norm = towers["conv_channels"], towers["norm"]
            cls_channels = _ALIGNED_WIDTH * channels
            self.align = BoxAlignment(towers["in_channels"], channels)
            self.cls_tower = nn.Sequential(
                conv_norm_relu(channels, cls_channels, norm),
                conv_with_norm(cls_channels, cls_channels, norm, kernel_size=1, activation=F.relu_),
            )
        self.aligned = align
        self.cls_pred = nn.Conv2d(cls_channels, num_classes, 3, padding=1)
        self.distance_pred = nn.Conv2d(self.tower_channels, 4, 3, padding=1)
        self.init_layers(prior_prob)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict[str, Any]:
        return {**super().from_config(cfg, input_shape), "align": cfg.MODEL.FOVEABOX.ALIGN}

    def forward(self, features: list[Tensor]) -> HeadOutput:
        """Predict from the levels' features, (N, C, H, W) each."""
        output = HeadOutput([], [])
        for feature in features:
            log_distances = self.distance_pred(self.box_tower(feature)).float()
            output.log_distances.append(log_distances)
            if self.aligned:
                feature = self.align(feature, bounded_exp(log_distances))
            output.logits.append(self.cls_pred(self.cls_tower(feature)))
        return output
