"""Res2Net v1d (https://arxiv.org/abs/1904.01169) as blocks and stem for Detectron2's `ResNet`."""

from typing import Any

import fvcore.nn.weight_init as weight_init
import torch
from detectron2.config import CfgNode
from detectron2.layers import CNNBlockBase, Conv2d, ShapeSpec, get_norm
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone.fpn import FPN
from detectron2.modeling.backbone.resnet import ResNet
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import UserError
from ...layers.conv_norm import conv_with_norm
from ...layers.deform_conv import DeformConvV1WithOffset, DeformConvWithOffset
from .fpn import build_fpn
from .resnet import BLOCKS_PER_STAGE, assemble_resnet


class DeepStem(CNNBlockBase):
    """Three 3x3 convolutions, the first of stride 2, and a max pooling: stride 4 in all."""

    def __init__(self, in_channels: int, out_channels: int, norm: str):
        super().__init__(in_channels, out_channels, 4)
        half = out_channels // 2
        self.conv1 = _conv(in_channels, half, 3, norm, stride=2)
        self.conv2 = _conv(half, half, 3, norm)
        self.conv3 = _conv(half, out_channels, 3, norm)

    def forward(self, x: Tensor) -> Tensor:
        for conv in (self.conv1, self.conv2, self.conv3):
            x = F.relu_(conv(x))
        return F.max_pool2d(x, kernel_size=3, stride=2, padding=1)


class Res2NetBlock(CNNBlockBase):
    """A bottleneck whose 3x3 convolution is a chain over groups of channels ("scales").

    The first block of a stage convolves each group alone and pools the last one; in the others each
    convolution adds what the one before it gave. The shortcut of a first block is an average
    pooling and a 1x1 convolution ("v1d").
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int,
        scales: int,
        first: bool,
        stride: int,
        norm: str,
        deform: type[nn.Module] | None,
    ):
        """
        Args:
            width, scales: channels of a group, and how many groups; all but the last are convolved.
            first: whether this is the first block of its stage, which alone may have a stride.
            norm: a name of `get_norm`.
            deform: the deformable layer that the 3x3 convolutions are, with its own offsets.
        """
        super().__init__(in_channels, out_channels, stride)
        self.first = first
        self.shortcut = _conv(in_channels, out_channels, 1, norm) if first else None
        self.conv1 = _conv(in_channels, scales * width, 1, norm)
        self.convs = nn.ModuleList(
            deform(width, width, stride=stride, norm=get_norm(norm, width))
            if deform
            else _conv(width, width, 3, norm, stride)
            for _ in range(scales - 1)
        )
        self.conv3 = _conv(scales * width, out_channels, 1, norm)

    def forward(self, x: Tensor) -> Tensor:
        groups = F.relu_(self.conv1(x)).chunk(len(self.convs) + 1, dim=1)
        outputs: list[Tensor] = []
        for conv, group in zip(self.convs, groups):
            chained = group if self.first or not outputs else outputs[-1] + group
            outputs.append(F.relu(conv(chained)))
        last = groups[-1]
        if self.stride > 1:
            last = F.avg_pool2d(last, kernel_size=3, stride=self.stride, padding=1)
        out = self.conv3(torch.cat([*outputs, last], dim=1))
        return F.relu_(out + self._shortcut(x))

    def _shortcut(self, x: Tensor) -> Tensor:
        if self.shortcut is None:
            return x
        if self.stride > 1:
            x = F.avg_pool2d(x, self.stride, self.stride, ceil_mode=True, count_include_pad=False)
        return self.shortcut(x)


def _conv(
    in_channels: int, out_channels: int, kernel_size: int, norm: str, stride: int = 1
) -> Conv2d:
    # As in Detectron2's ResNet there is no bias, even without a norm.
    conv = conv_with_norm(
        in_channels, out_channels, norm, kernel_size=kernel_size, stride=stride, bias=False
    )
    weight_init.c2_msra_fill(conv)
    return conv


def build_res2net(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """The Res2Net that `MODEL.RESNETS` and `MODEL.RES2NET` describe.

    `NUM_GROUPS` and `WIDTH_PER_GROUP` play no part.
    """
    resnets, res2net = cfg.MODEL.RESNETS, cfg.MODEL.RES2NET
    depth = resnets.DEPTH
    if depth not in BLOCKS_PER_STAGE or depth < 50:
        raise UserError(f"Res2Net needs MODEL.RESNETS.DEPTH 50, 101 or 152, got {depth}")
    deformable = DeformConvWithOffset if resnets.DEFORM_MODULATED else DeformConvV1WithOffset

    def block_arguments(index: int) -> dict[str, Any]:
        return {
            "block_class": Res2NetBlock,
            "first_per_block": [True] + [False] * (BLOCKS_PER_STAGE[depth][index] - 1),
            "width": res2net.BASE_WIDTH * 2**index,
            "scales": res2net.SCALES,
            "deform": deformable if resnets.DEFORM_ON_PER_STAGE[index] else None,
        }

    stem = DeepStem(input_shape.channels, resnets.STEM_OUT_CHANNELS, resnets.NORM)
    return assemble_resnet(cfg, stem, block_arguments)


@BACKBONE_REGISTRY.register()
def build_vfnet_res2net_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Res2Net with FPN: see `build_fpn`."""
    return build_fpn(cfg, build_res2net(cfg, input_shape))
