"""Detectron2's convolution with less work: batch norms folded in, Winograd's form where it pays."""

from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import Tensor, nn

from .winograd import conv2d


class FastConv2d(Conv2d):
    """Detectron2's `Conv2d` whose batch norm costs nothing while its statistics are fixed."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve x (N, C, H, W), normalise, activate."""
        weight, bias, norm = folded_norm(self.weight, self.bias, self.norm)
        out = conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)
        if norm is not None:
            out = norm(out)
        return out if self.activation is None else self.activation(out)


def use_fast_convolutions(module: nn.Module) -> None:
    """Let every one of Detectron2's convolutions in `module` compute in its fast form.

    The objects stay the same ones: FPN holds them in lists of its own too.
    """
    for child in module.modules():
        if type(child) is Conv2d:
            child.__class__ = FastConv2d


def folded_norm(
    weight: Tensor, bias: Tensor | None, norm: nn.Module | None
) -> tuple[Tensor, Tensor | None, nn.Module | None]:
    """Kernel (Cout, ...), bias (Cout,) and norm of a convolution, a fixed batch norm folded in.

    norm(w * x) = (s w) * x + (b - s m) with the scale s = gamma / sqrt(var + eps), mean m and
    shift b. Folded anew at each call, which is cheap against the passes over the output that it
    saves, so that weights may change at any time; gradients reach them all. While the norm is in
    training mode, and for norms of another kind, all three stay as they are.
    """
    is_batch_norm = isinstance(norm, (nn.BatchNorm2d, FrozenBatchNorm2d))
    if norm is None or not is_batch_norm or norm.training or bias is not None:
        return weight, bias, norm
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale, None
