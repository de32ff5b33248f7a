"""The balanced feature pyramid of Libra R-CNN (https://arxiv.org/abs/1904.02701, section 3.2)."""

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from fvcore.nn import weight_init
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import UserError
from ...layers.conv_norm import conv_with_norm
from ...utils.precision import without_autocast


class NonLocal(nn.Module):
    """Adds to each cell what it attends to among all cells (https://arxiv.org/abs/1711.07971).

    The embedded Gaussian without scale, of as many channels as the input: softmax(theta phi^T) g,
    then a last convolution, which starts at 0 as in mmdet 3: the block starts as the identity.
    (mmdet 2 meant the same, but its pyramid initialised that convolution once more.) It computes in
    float32 whatever autocast says: without a scale, dot products leave the range of float16.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.g, self.theta, self.phi, self.conv_out = (
            conv_with_norm(channels, channels, "", kernel_size=1) for _ in range(4)
        )
        for conv in (self.g, self.theta, self.phi):
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(conv.bias)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, H, W) -> the same shape, float32."""
        with without_autocast(x.device.type):
            x = x.float()
            # Of each cell a row (N, 1, H W, C), by one head, whose axis exporters want.
            theta, phi, g = (
                conv(x).flatten(2).transpose(1, 2)[:, None]
                for conv in (self.theta, self.phi, self.g)
            )
            attended = F.scaled_dot_product_attention(theta, phi, g, scale=1.0)[:, 0]
            return x + self.conv_out(attended.transpose(1, 2).reshape(x.shape))


class BalancedFeaturePyramid(nn.Module):
    """Brings all levels to one size, refines their mean, and adds it to each of them."""

    def __init__(self, channels: int, refine_level: int = 2, refine: str = "non_local"):
        """
        Args:
            channels: of every level.
            refine_level: the level, counted from the finest, whose size the mean has.
            refine: "non_local"; "conv", a 3x3 convolution and ReLU; or "", the mean as it is.

        Raises:
            UserError: another value of `refine`.
        """
        super().__init__()
        self.refine_level = refine_level
        self.refine: nn.Module
        if refine == "non_local":
            self.refine = NonLocal(channels)
        elif refine == "conv":
            self.refine = conv_with_norm(channels, channels, "", activation=F.relu)
            weight_init.c2_msra_fill(self.refine)
        elif refine == "":
            self.refine = nn.Identity()
        else:
            raise UserError(
                f"MODEL.BFP.REFINE must be 'non_local', 'conv' or '' (none), got {refine!r}"
            )

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        """Levels, finest first, each (N, C, H, W) -> the same shapes.

        On the way to a coarser size it takes the maximum, to a finer one the nearest cell.
        """
        size = levels[self.refine_level].shape[-2:]
        gathered = [_resized(level, size, self.refine_level - i) for i, level in enumerate(levels)]
        mean = self.refine(torch.stack(gathered).mean(dim=0))
        return [
            level + _resized(mean.to(level.dtype), level.shape[-2:], i - self.refine_level)
            for i, level in enumerate(levels)
        ]


def _resized(x: Tensor, size: torch.Size, levels_coarser: int) -> Tensor:
    """A level x (N, C, H, W) as large as one that is so many levels coarser, or, below 0, finer."""
    if levels_coarser <= 0:
        return F.interpolate(x, size=size, mode="nearest")
    if torch.compiler.is_exporting():  # other runtimes lack the operation
        for dim, length in zip((2, 3), size):
            x = adaptive_maximum(x, length, dim, longest=2**levels_coarser + 1)
        return x
    return F.adaptive_max_pool2d(x, size)


def adaptive_maximum(x: Tensor, size: int, dim: int, longest: int) -> Tensor:
    """`F.adaptive_max_pool2d` along one axis by gathering, of bins of `longest` cells at most.

    Bin i of `size` reaches from floor(i L / size) to ceil((i + 1) L / size) of an axis of length L.
    """
    length = x.shape[dim]
    bins = torch.arange(size, device=x.device)
    first, last = bins * length // size, ((bins + 1) * length - 1) // size
    cells = (torch.minimum(first + i, last) for i in range(longest))
    return torch.stack([x.index_select(dim, index) for index in cells]).amax(dim=0)


class BalancedBackbone(Backbone):
    """Another backbone, whose levels a `BalancedFeaturePyramid` refines: names and shapes stay."""

    def __init__(self, pyramid: Backbone, refine_level: int, refine: str):
        """
        Args:
            pyramid: gives two levels or more, all of the same channels.
            refine_level, refine: see `BalancedFeaturePyramid`.

        Raises:
            UserError: the levels have different channels, or there is no such level.
        """
        super().__init__()
        shapes = pyramid.output_shape()
        self._out_features = sorted(shapes, key=lambda name: shapes[name].stride)
        self._out_feature_strides = {name: shape.stride for name, shape in shapes.items()}
        self._out_feature_channels = {name: shape.channels for name, shape in shapes.items()}
        channels = set(self._out_feature_channels.values())
        if len(channels) > 1:
            raise UserError(
                "MODEL.BFP.BACKBONE must build a pyramid, all levels of which have the same "
                f"channels, got {self._out_feature_channels}"
            )
        if not 0 <= refine_level < len(shapes):
            raise UserError(
                f"MODEL.BFP.REFINE_LEVEL must be 0 to {len(shapes) - 1}, one of the levels "
                f"{', '.join(self._out_features)}, got {refine_level}"
            )
        self.pyramid = pyramid
        self.bfp = BalancedFeaturePyramid(channels.pop(), refine_level, refine)

    @property
    def size_divisibility(self) -> int:
        return self.pyramid.size_divisibility

    @property
    def padding_constraints(self) -> dict[str, int]:
        return self.pyramid.padding_constraints

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Compute the levels of images (N, 3, H, W), as the pyramid takes them."""
        features = self.pyramid(x)
        balanced = self.bfp([features[name] for name in self._out_features])
        return dict(zip(self._out_features, balanced))


@BACKBONE_REGISTRY.register()
def build_bfp_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> BalancedBackbone:
    """The balanced feature pyramid around the pyramid of the builder that `BFP.BACKBONE` names."""
    bfp = cfg.MODEL.BFP
    if bfp.BACKBONE == build_bfp_backbone.__name__ or bfp.BACKBONE not in BACKBONE_REGISTRY:
        raise UserError(
            "MODEL.BFP.BACKBONE must be the name of another builder of a pyramid, such as "
            f"'build_vfnet_resnet_fpn_backbone', got {bfp.BACKBONE!r}"
        )
    pyramid = BACKBONE_REGISTRY.get(bfp.BACKBONE)(cfg, input_shape)
    return BalancedBackbone(pyramid, bfp.REFINE_LEVEL, bfp.REFINE)
