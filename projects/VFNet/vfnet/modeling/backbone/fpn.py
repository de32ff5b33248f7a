"""The feature pyramid that all backbones of this project can have, with P6 and P7 as configured."""

from detectron2.config import CfgNode
from detectron2.modeling import Backbone
from detectron2.modeling.backbone.fpn import FPN, LastLevelMaxPool, LastLevelP6P7
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import UserError
from ...layers.conv_norm import conv_with_norm
from ...layers.fast_conv import use_fast_convolutions

# Of a backbone's stages, by the names that Detectron2's ResNet has for them.
STAGE_STRIDES = {"res2": 4, "res3": 8, "res4": 16, "res5": 32}


class LastLevels(LastLevelP6P7):
    """P6 and P7, each by a 3x3 convolution with stride 2 of the level before.

    Unlike Detectron2's it may do without the ReLU before P7, and have norms.
    """

    def __init__(self, in_feature: str, in_channels: int, channels: int, relu: bool, norm: str):
        """
        Args:
            in_feature, in_channels: what P6 is made from, such as "p5".
            channels: of P6 and of P7.
            relu: whether P6 is rectified on its way to P7.
            norm: of both, a name of `get_norm`; "" for none.
        """
        super().__init__(in_channels, channels, in_feature)
        self.relu = relu
        if norm:
            self.p6 = conv_with_norm(in_channels, channels, norm, stride=2)
            self.p7 = conv_with_norm(channels, channels, norm, stride=2)

    def forward(self, x: Tensor) -> list[Tensor]:
        """From (N, C, H, W) to P6 and P7, half and a quarter of its size."""
        p6 = self.p6(x)
        return [p6, self.p7(F.relu(p6) if self.relu else p6)]


def pyramid_inputs(cfg: CfgNode) -> list[str]:
    """What a pyramid is made from, the finest first: res3 on for P3, res2 on for P2 too.

    Raises:
        UserError: MODEL.FPN.IN_FEATURES names something else.
    """
    names = list(cfg.MODEL.FPN.IN_FEATURES)
    if not names or names != list(STAGE_STRIDES)[-len(names) :]:
        raise UserError(
            "MODEL.FPN.IN_FEATURES must name stages that follow each other up to res5, such as "
            f"['res3', 'res4', 'res5'], or from res2 on for the level p2; got {names}"
        )
    return names


def build_fpn(cfg: CfgNode, bottom_up: Backbone) -> FPN:
    """FPN with levels above P5 by `FPN.P6_FROM`, initialised as mmdet's: Xavier uniform, bias 0.

    `bottom_up` gives what `pyramid_inputs` names.
    """
    fpn = FPN(
        bottom_up=bottom_up,
        in_features=pyramid_inputs(cfg),
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=_build_top_block(cfg, bottom_up),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )
    init_neck(fpn, bottom_up)
    use_fast_convolutions(fpn)
    return fpn


def _build_top_block(cfg: CfgNode, bottom_up: Backbone) -> nn.Module:
    source, channels = cfg.MODEL.FPN.P6_FROM, cfg.MODEL.FPN.OUT_CHANNELS
    if source == "pool":
        return LastLevelMaxPool()
    if source not in ("p5", "res5"):
        raise UserError(f"MODEL.FPN.P6_FROM must be 'p5', 'res5' or 'pool', got {source!r}")
    in_channels = bottom_up.output_shape()["res5"].channels if source == "res5" else channels
    fpn = cfg.MODEL.FPN
    return LastLevels(source, in_channels, channels, fpn.P7_RELU, fpn.P6_P7_NORM)


def init_neck(neck: nn.Module, bottom_up: nn.Module) -> None:
    """Initialise every convolution of a neck, its `bottom_up` apart: Xavier uniform, bias 0."""
    below = set(bottom_up.modules())
    for module in neck.modules():
        if isinstance(module, nn.Conv2d) and module not in below:
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
