"""ResNet and ResNeXt with a feature pyramid, composed of Detectron2's pieces."""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone.fpn import FPN
from detectron2.modeling.backbone.resnet import (
    BasicBlock,
    BasicStem,
    BottleneckBlock,
    DeformBottleneckBlock,
    ResNet,
)
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...config import norms_are_fixed
from ...errors import UserError
from ...layers.deform_conv import ANY_DEVICE
from ...layers.fast_conv import use_fast_convolutions
from .fpn import build_fpn, pyramid_inputs

BLOCKS_PER_STAGE = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


class VFNetResNet(ResNet):
    """Detectron2's ResNet with batch norms that may stay fixed, and a faster form of inference.

    `norm_eval`: batch norms keep their running statistics while it trains. Their scale and shift
    still learn unless frozen, unlike in `FrozenBatchNorm2d`.
    """

    def __init__(self, *args: Any, norm_eval: bool, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.norm_eval = norm_eval

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Features by name, of images x (N, C, H, W).

        Without gradients the channels of a pixel lie side by side, and what follows keeps that
        layout. With gradients, its rounding would move those of the reference's small networks by
        more than the 1e-3 that parity allows (a ReLU near 0 chooses between two).
        """
        if not torch.is_grad_enabled():
            x = x.contiguous(memory_format=torch.channels_last)
        return super().forward(x)

    def train(self, mode: bool = True) -> "VFNetResNet":
        super().train(mode)
        fixed = (FrozenBatchNorm2d, _BatchNorm) if self.norm_eval else FrozenBatchNorm2d
        for module in self.modules():
            if isinstance(module, fixed):
                module.eval()
        return self


@BACKBONE_REGISTRY.register()
def build_vfnet_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """ResNet or ResNeXt of any width with FPN: see `build_fpn`."""
    resnets = cfg.MODEL.RESNETS
    if resnets.RES5_DILATION != 1:
        raise UserError(
            "MODEL.RESNETS.RES5_DILATION must be 1: the pyramid needs res5 at half of res4's size, "
            f"got {resnets.RES5_DILATION}"
        )
    stem = BasicStem(input_shape.channels, resnets.STEM_OUT_CHANNELS, resnets.NORM)
    return build_fpn(cfg, assemble_resnet(cfg, stem, partial(_block_arguments, resnets)))


def assemble_resnet(
    cfg: CfgNode, stem: nn.Module, block_arguments: Callable[[int], dict[str, Any]]
) -> ResNet:
    """A ResNet of this stem and four stages, its other numbers as configured.

    `block_arguments` gives what `ResNet.make_stage` has to know of the blocks of a stage (index 0
    is res2), besides their channels, strides and norm.
    """
    resnets = cfg.MODEL.RESNETS
    if resnets.DEPTH not in BLOCKS_PER_STAGE:
        raise UserError(
            f"MODEL.RESNETS.DEPTH must be one of {sorted(BLOCKS_PER_STAGE)}, got {resnets.DEPTH}"
        )
    stages = []
    in_channels, out_channels = resnets.STEM_OUT_CHANNELS, resnets.RES2_OUT_CHANNELS
    for index, num_blocks in enumerate(BLOCKS_PER_STAGE[resnets.DEPTH]):
        blocks = ResNet.make_stage(
            num_blocks=num_blocks,
            stride_per_block=[1 if index == 0 else 2] + [1] * (num_blocks - 1),
            in_channels=in_channels,
            out_channels=out_channels,
            norm=resnets.NORM,
            **block_arguments(index),
        )
        in_channels, out_channels = out_channels, 2 * out_channels
        stages.append(blocks)
    if resnets.ZERO_INIT_RESIDUAL:
        _zero_init_residual(stages)
    resnet = VFNetResNet(
        stem,
        stages,
        out_features=list(dict.fromkeys([*resnets.OUT_FEATURES, *pyramid_inputs(cfg)])),
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
        norm_eval=norms_are_fixed(cfg),
    )
    use_fast_convolutions(resnet)
    for module in resnet.modules():
        if type(module) in ANY_DEVICE:
            module.__class__ = ANY_DEVICE[type(module)]
        elif isinstance(module, FrozenBatchNorm2d):
            # Counts nothing any more; converted weights have none, which would be warned of.
            module.num_batches_tracked = None
    return resnet


def _block_arguments(resnets: CfgNode, index: int) -> dict[str, Any]:
    deform = resnets.DEFORM_ON_PER_STAGE[index]
    if resnets.DEPTH < 50:
        if deform or resnets.NUM_GROUPS > 1:
            raise UserError(
                "R-18 and R-34 have neither DEFORM_ON_PER_STAGE nor NUM_GROUPS; "
                "set MODEL.RESNETS.DEPTH to 50 or more, or leave these at their defaults"
            )
        return {"block_class": BasicBlock}
    deformable = {
        "deform_modulated": resnets.DEFORM_MODULATED,
        "deform_num_groups": resnets.DEFORM_NUM_GROUPS,
    }
    return {
        "block_class": DeformBottleneckBlock if deform else BottleneckBlock,
        "bottleneck_channels": resnets.NUM_GROUPS * resnets.WIDTH_PER_GROUP * 2**index,
        "num_groups": resnets.NUM_GROUPS,
        "stride_in_1x1": resnets.STRIDE_IN_1X1,
        **(deformable if deform else {}),
    }


def _zero_init_residual(stages: list[list[nn.Module]]) -> None:
    """Start each block as the identity (https://arxiv.org/abs/1706.02677, section 5.1)."""
    for block in itertools.chain.from_iterable(stages):
        norm = (block.conv2 if isinstance(block, BasicBlock) else block.conv3).norm
        if norm is None or not isinstance(norm.weight, nn.Parameter):
            raise UserError(
                "MODEL.RESNETS.ZERO_INIT_RESIDUAL needs norms that learn their scale, "
                "such as MODEL.RESNETS.NORM BN"
            )
        nn.init.zeros_(norm.weight)
