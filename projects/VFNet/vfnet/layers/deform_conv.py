"""Deformable convolutions on any device: the modulated one (DCNv2,
https://arxiv.org/abs/1811.11168) and version 1 (https://arxiv.org/abs/1703.06211), without masks.

The layers are Detectron2's, parameters and names included; its kernels, which run on CUDA in
float32 alone, are replaced by torchvision's, which runs forward and backward everywhere, and on a
CPU by gathering, which is the faster form of the same sum (benchmarks/deform_conv.py).
"""

from typing import Any

import torch
from detectron2.layers import Conv2d, DeformConv, ModulatedDeformConv
from torch import Tensor, nn
from torch.nn.modules.utils import _pair
from torchvision.ops import deform_conv2d

from ..utils.precision import without_autocast
from .fast_conv import folded_norm
from .gather_conv import finite_offsets, gather_convolution, sampling_points


class _AnyDevice(nn.Module):
    """What stands in the place of Detectron2's kernels. Strides are the same in both directions."""

    def _convolve(self, x: Tensor, offset: Tensor, mask: Tensor | None) -> Tensor:
        """Convolve, normalise, activate; without a mask all of its values are 1."""
        weight, bias, norm = folded_norm(self.weight, self.bias, self.norm)
        if self._gathers(x):
            points = sampling_points(offset, mask, _pair(self.stride)[0], x.shape[-2:])
            out = gather_convolution(x, points, weight)
            out = out if bias is None else out + bias[:, None, None]
        else:
            # Half precision would move the samples.
            with without_autocast(x.device.type):
                out = deform_conv2d(
                    x.float(),
                    finite_offsets(offset),
                    weight,
                    bias,
                    stride=self.stride,
                    padding=self.padding,
                    dilation=self.dilation,
                    mask=None if mask is None else mask.float(),
                )
        if norm is not None:
            out = norm(out)
        return out if self.activation is None else self.activation(out)

    def _gathers(self, x: Tensor) -> bool:
        # A graph that is exported holds the one operation that other runtimes know.
        exporting = torch.jit.is_tracing() or torch.compiler.is_compiling()
        plain = self.groups == self.deformable_groups == max(_pair(self.dilation)) == 1
        return x.device.type == "cpu" and plain and not exporting and x.numel() > 0

    def _add_offset_branch(self, channels: int) -> None:
        """Start the branch at zero, the kernel uniform in +-1 / sqrt(9 C): as mmcv's layers do."""
        self.offset = Conv2d(
            self.in_channels, channels, kernel_size=3, stride=self.stride, padding=1
        )
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)
        bound = (9 * self.in_channels) ** -0.5
        nn.init.uniform_(self.weight, -bound, bound)


class AnyDeviceDeformConv(_AnyDevice, ModulatedDeformConv):
    """Detectron2's `ModulatedDeformConv` of 3x3 taps, forward and backward on every device."""

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        """Convolve.

        Args:
            x: (N, C, H, W).
            offset: (N, 18 G, Hout, Wout) for a 3x3 kernel and G = `deformable_groups`; (dy, dx) of
                each tap in row order, in cells.
            mask: (N, 9 G, Hout, Wout), the modulation of each tap.

        Returns:
            (N, Cout, Hout, Wout), float32 where the kernel is torchvision's.
        """
        return self._convolve(x, offset, mask)


class AnyDeviceDeformConvV1(_AnyDevice, DeformConv):
    """Detectron2's `DeformConv` of 3x3 taps, forward and backward on every device."""

    def forward(self, x: Tensor, offset: Tensor) -> Tensor:
        """Convolve: as `AnyDeviceDeformConv`, without a mask."""
        return self._convolve(x, offset, None)


class DeformConvWithOffset(AnyDeviceDeformConv):
    """A 3x3 DCNv2 layer with its own offset branch, as in the last convolution of the towers.

    It starts without displacement, at a modulation of 0.5.
    """

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool = False, **rest: Any):
        """`rest`: stride, norm and activation, as in `ModulatedDeformConv`."""
        super().__init__(in_channels, out_channels, 3, padding=1, bias=bias, **rest)
        self._add_offset_branch(27)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve x (N, C, H, W) -> (N, Cout, H / stride, W / stride)."""
        offset, mask = self.offset(x).split((18, 9), dim=1)
        return super().forward(x, offset, mask.sigmoid())


class DeformConvV1WithOffset(AnyDeviceDeformConvV1):
    """A 3x3 DCN layer of version 1 with its own offset branch; it starts as a plain convolution."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1, **rest: Any):
        """`rest`: norm and activation, as in `DeformConv`."""
        super().__init__(in_channels, out_channels, 3, stride=stride, padding=1, bias=False, **rest)
        self._add_offset_branch(18)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve x (N, C, H, W) -> (N, Cout, H / stride, W / stride)."""
        return super().forward(x, self.offset(x))


# What takes the place of Detectron2's layers; parameters and names stay.
ANY_DEVICE = {ModulatedDeformConv: AnyDeviceDeformConv, DeformConv: AnyDeviceDeformConvV1}
