"""What the heads of dense detectors are made of: towers of convolutions, and how they start."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from torch import Tensor, nn
from torch.nn import functional as F

from ...config import detector_key, detector_node
from ...errors import UserError
from ...layers.conv_norm import conv_with_norm
from ...layers.deform_conv import DeformConvWithOffset
from ...layers.fast_conv import use_fast_convolutions
from ...layers.star_conv import StarDeformConv


class TwoTowerHead(nn.Module):
    """What the heads of the family begin with: a tower for classes and one for boxes.

    A subclass adds what it predicts from them, the classes as `cls_pred`, and then calls
    `init_layers`.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        strides: list[int],
        num_convs: int,
        conv_channels: int,
        norm: str,
        deform_last_conv: bool,
    ):
        """
        Args:
            in_channels, strides: channels of every level, and pixels a cell of each.
            num_convs, conv_channels, norm, deform_last_conv: of both towers, see `build_tower`.
        """
        super().__init__()
        self.strides = strides
        tower = (in_channels, conv_channels, num_convs, norm, deform_last_conv)
        self.tower_channels = conv_channels if num_convs > 0 else in_channels
        self.cls_tower = build_tower(*tower)
        self.box_tower = build_tower(*tower)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict[str, Any]:
        """The arguments that all heads have, `num_classes` and `prior_prob` among them."""
        node = detector_node(cfg)
        return {
            "in_channels": common_channels(input_shape, detector_key(cfg)),
            "strides": [shape.stride for shape in input_shape],
            "num_classes": node.NUM_CLASSES,
            "num_convs": node.NUM_CONVS,
            "conv_channels": node.CONV_CHANNELS,
            "norm": node.NORM,
            "prior_prob": node.PRIOR_PROB,
            "deform_last_conv": node.DEFORM_LAST_CONV,
        }

    def init_layers(self, prior_prob: float) -> None:
        """Initialise all layers; `prior_prob`: the probability that `cls_pred` starts from."""
        init_convolutions(self)
        nn.init.constant_(self.cls_pred.bias, bias_of_prior(prior_prob))
        use_fast_convolutions(self)

    def towers(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """Of a level (N, C, H, W), the features for classes and those for boxes."""
        return self.cls_tower(feature), self.box_tower(feature)


def build_tower(
    in_channels: int, channels: int, num_convs: int, norm: str, deform_last_conv: bool = False
) -> nn.Sequential:
    """`num_convs` 3x3 convolutions with norm and ReLU; the last one a DCNv2, if that is asked for.

    Args:
        in_channels, channels: of what it is given, and of each convolution.
        norm: a name of `detectron2.layers.get_norm`.
    """
    inputs = [in_channels, *[channels] * (num_convs - 1)][:num_convs]
    layers: list[nn.Module] = [conv_norm_relu(count, channels, norm) for count in inputs]
    if deform_last_conv and layers:
        layer = get_norm(norm, channels)
        layers[-1] = DeformConvWithOffset(
            inputs[-1], channels, bias=layer is None, norm=layer, activation=F.relu_
        )
    return nn.Sequential(*layers)


def conv_norm_relu(in_channels: int, out_channels: int, norm: str) -> Conv2d:
    """A 3x3 convolution, its norm (or a bias where that is "") and a ReLU."""
    return conv_with_norm(in_channels, out_channels, norm, activation=F.relu_)


def level_scales(num_levels: int) -> nn.ParameterList:
    """One learnt factor a level, a 0-dim tensor that starts at 1."""
    return nn.ParameterList(nn.Parameter(torch.tensor(1.0)) for _ in range(num_levels))


def init_convolutions(head: nn.Module, std: float = 0.01) -> None:
    """Start convolutions, plain or at a star, at normal weights and bias 0.

    DCNv2 layers start as they are.
    """
    for name, module in head.named_modules():
        offset_branch = name.endswith(".offset")  # starts at zero, see DeformConvWithOffset
        if isinstance(module, (nn.Conv2d, StarDeformConv)) and not offset_branch:
            nn.init.normal_(module.weight, std=std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def bias_of_prior(probability: float) -> float:
    """The bias from which a sigmoid gives a probability."""
    return -math.log((1 - probability) / probability)


def common_channels(shapes: Sequence[ShapeSpec], prefix: str) -> int:
    """The channels of all levels of a pyramid; messages begin with `prefix`.

    Raises:
        UserError: they differ.
    """
    channels = {shape.channels for shape in shapes}
    if len(channels) != 1:
        raise UserError(
            f"all levels of {prefix}.IN_FEATURES must have the same channels, got {channels}; "
            "name levels of one pyramid"
        )
    return channels.pop()
