"""A convolution and the batch norm behind it as one convolution, where the norm is fixed."""

import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import Tensor, nn
from torch.nn import functional as F


class FoldedConv2d(Conv2d):
    """Detectron2's `Conv2d` whose batch norm costs nothing in inference.

    norm(w * x) = (s w) * x + (b - s m) with the scale s = gamma / sqrt(var + eps), mean m and
    shift b. Folded anew at each call, which is cheap against the pass over the output that it
    saves, so that weights may change at any time. With gradients, or while the norm is in training
    mode, it is the plain layer. Parameters and names are that one's.
    """

    @classmethod
    def of(cls, conv: Conv2d) -> "FoldedConv2d":
        """The same layer with the same parameters."""
        folded = cls(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,
            stride=conv.stride,
            padding=conv.padding,
            dilation=conv.dilation,
            groups=conv.groups,
            bias=False,
            norm=conv.norm,
            activation=conv.activation,
            device="meta",
        )
        folded.weight = conv.weight
        return folded

    def forward(self, x: Tensor) -> Tensor:
        """Convolve x (N, C, H, W), normalise, activate."""
        if torch.is_grad_enabled() or self.norm.training or x.numel() == 0:
            return super().forward(x)
        scale = self.norm.weight * (self.norm.running_var + self.norm.eps).rsqrt()
        shift = self.norm.bias - self.norm.running_mean * scale
        out = F.conv2d(
            x,
            self.weight * scale[:, None, None, None],
            shift,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
        )
        return out if self.activation is None else self.activation(out)


def fold_batch_norms(module: nn.Module) -> None:
    """Replace every convolution below `module` that has a batch norm by its folding form."""
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if type(child) is Conv2d and isinstance(
                child.norm, (nn.BatchNorm2d, FrozenBatchNorm2d)
            ):
                setattr(parent, name, FoldedConv2d.of(child))
