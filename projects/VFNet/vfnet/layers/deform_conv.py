"""Modulated deformable convolution (DCNv2, https://arxiv.org/abs/1811.11168) on any device.

The layers are Detectron2's, parameters and names included; its kernel, which runs on CUDA in
float32 alone, is replaced by torchvision's, which runs forward and backward everywhere, and on a
CPU by gathering, which is the faster form of the same sum (benchmarks/deform_conv.py).
"""

from typing import Any

import torch
from detectron2.layers import Conv2d, ModulatedDeformConv
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from .fast_conv import folded_norm
from .gather_conv import finite_offsets, gather_convolution, sampling_points


class AnyDeviceDeformConv(ModulatedDeformConv):
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
        weight, bias, norm = folded_norm(self.weight, self.bias, self.norm)
        if self._gathers(x):
            points = sampling_points(offset, mask, self.stride, x.shape[-2:])
            out = gather_convolution(x, points, weight)
            out = out if bias is None else out + bias[:, None, None]
        else:
            # Half precision would move the samples.
            with torch.autocast(x.device.type, enabled=False):
                out = deform_conv2d(
                    x.float(),
                    finite_offsets(offset, *x.shape[-2:]),
                    weight,
                    bias,
                    stride=self.stride,
                    padding=self.padding,
                    dilation=self.dilation,
                    mask=mask.float(),
                )
        if norm is not None:
            out = norm(out)
        return out if self.activation is None else self.activation(out)

    def _gathers(self, x: Tensor) -> bool:
        # A graph that is exported holds the one operation that other runtimes know.
        exporting = torch.jit.is_tracing() or torch.compiler.is_compiling()
        plain = self.groups == self.deformable_groups == self.dilation == 1
        return x.device.type == "cpu" and plain and not exporting and x.numel() > 0


class DeformConvWithOffset(AnyDeviceDeformConv):
    """A 3x3 DCNv2 layer with its own offset branch, as in the last convolution of the towers.

    The branch starts at zero (no displacement, modulation 0.5), the kernel uniform in
    +-1 / sqrt(9 C), as mmcv's layer does.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1, **rest: Any):
        """`rest`: norm and activation, as in `ModulatedDeformConv`."""
        super().__init__(in_channels, out_channels, 3, stride=stride, padding=1, bias=False, **rest)
        self.offset = Conv2d(in_channels, 27, kernel_size=3, stride=stride, padding=1)
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)
        bound = (9 * in_channels) ** -0.5
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve x (N, C, H, W) -> (N, Cout, H / stride, W / stride)."""
        offset, mask = self.offset(x).split((18, 9), dim=1)
        return super().forward(x, offset, mask.sigmoid())
