"""The neck of VFNet-X: a feature pyramid with a bottom-up path (https://arxiv.org/abs/1803.01534).

It differs from PANet's: the last convolutions are deformable, the finest level has one too, and
no level is rectified but P6 before P7.
"""

from functools import partial

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec, get_norm
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from detectron2.modeling.backbone.fpn import FPN
from torch import Tensor, nn
from torch.nn import functional as F

from ...layers.conv_norm import conv_with_norm
from ...layers.deform_conv import DeformConvWithOffset
from .fpn import init_neck, pyramid_inputs
from .res2net import build_res2net


class PAFPN(Backbone):
    """P3 (or P2) to P7: an FPN's levels, summed from fine to coarse, each convolved once more.

    The lateral convolutions have a bias and no norm; the others have `norm`.
    """

    def __init__(
        self,
        bottom_up: Backbone,
        in_features: list[str],
        out_channels: int,
        norm: str = "",
        deform: bool = False,
    ):
        """
        Args:
            bottom_up: gives `in_features`, whose strides double up to 32.
            norm: a name of `get_norm`; "" for none.
            deform: make the last convolutions of the levels up to P5 DCNv2.
        """
        super().__init__()
        self.fpn = FPN(bottom_up, in_features, out_channels, norm=norm, top_block=None)
        for lateral in self.fpn.lateral_convs:  # FPN gives them the norm as well
            lateral.norm = None
            lateral.bias = nn.Parameter(torch.zeros(out_channels))
        strides = {name: shape.stride for name, shape in self.fpn.output_shape().items()}

        conv = partial(conv_with_norm, out_channels, out_channels, norm)
        self.downsample = nn.ModuleList(conv(stride=2) for _ in range(len(strides) - 1))
        self.output = nn.ModuleList(
            DeformConvWithOffset(out_channels, out_channels, norm=get_norm(norm, out_channels))
            if deform
            else conv()
            for _ in strides
        )
        self.p6, self.p7 = conv(stride=2), conv(stride=2)
        coarsest = max(strides.values())
        self._out_feature_strides = {**strides, "p6": 2 * coarsest, "p7": 4 * coarsest}
        self._out_feature_channels = dict.fromkeys(self._out_feature_strides, out_channels)
        self._out_features = list(self._out_feature_strides)
        init_neck(self, bottom_up)  # offset branches too: the reference's start at random here

    @property
    def size_divisibility(self) -> int:
        return self.fpn.size_divisibility

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Compute the levels of images (N, 3, H, W), H and W multiples of `size_divisibility`."""
        fine, *coarser = self.fpn(x).values()
        levels = [fine]
        for downsample, level in zip(self.downsample, coarser):
            levels.append(level + downsample(levels[-1]))
        levels = [output(level) for output, level in zip(self.output, levels)]
        levels.append(self.p6(levels[-1]))
        levels.append(self.p7(F.relu(levels[-1])))
        return dict(zip(self._out_features, levels))


@BACKBONE_REGISTRY.register()
def build_vfnet_res2net_pafpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> PAFPN:
    """Res2Net with the PAFPN of VFNet-X."""
    return PAFPN(
        build_res2net(cfg, input_shape),
        pyramid_inputs(cfg),
        cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.PAFPN.NORM,
        deform=cfg.MODEL.PAFPN.DEFORM,
    )
