"""The sum of varifocal loss over all locations of a batch, with its gradient in the same pass.

The same number as `varifocal_loss(..., reduction="sum")`, which tests compare it with. That one
keeps a tensor of the logits' size for each step of its arithmetic, some fifteen of them, and a
dense tensor of targets of which one in a thousand is not 0; here blocks of logits pass through the
cache once. Measured: docs/performance.md, "Varifocal loss".
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

# Logits of a block: its few temporaries stay in a processor's cache.
_BLOCK = 1 << 16


def varifocal_loss_sum(
    logits: Tensor,
    row: Tensor,
    column: Tensor,
    quality: Tensor,
    alpha: float = 0.75,
    gamma: float = 2.0,
    iou_weighted: bool = True,
) -> Tensor:
    """Sum varifocal loss (paper, equation 2) over logits whose targets are 0 but for a few.

    Args:
        logits: (R, K).
        row, column: (P,) int64, places of the targets that may be positive, each once.
        quality: (P,), their targets q, which take no gradient; where q is 0, they are negative.
        alpha, gamma, iou_weighted: see `varifocal_loss`; the sum is a float32 scalar.
    """
    logits, quality = logits.float(), quality.detach().float()
    x = logits.detach()
    flat = x.reshape(-1)
    # A GPU has no use for blocks, and pays for each launch.
    block = max(flat.numel(), 1) if flat.is_cuda else _BLOCK
    gradient = torch.empty_like(flat)
    blocks = zip(flat.split(block), gradient.split(block))
    total = torch.stack([_negatives(*pair, alpha, gamma).sum() for pair in blocks]).sum()

    # The few places of q were counted among the negatives, which some of them are.
    chosen, is_positive = x[row, column], quality > 0
    slope = torch.empty_like(chosen)
    as_negative = _negatives(chosen, slope, alpha, gamma)
    weight = quality if iou_weighted else torch.ones_like(quality)
    as_positive = weight * F.binary_cross_entropy_with_logits(chosen, quality, reduction="none")
    total += torch.where(is_positive, as_positive - as_negative, 0).sum()
    gradient = gradient.view_as(x)
    gradient[row, column] = torch.where(is_positive, weight * (chosen.sigmoid() - quality), slope)
    return _WithGradient.apply(logits, total, gradient)


class _WithGradient(torch.autograd.Function):
    """A scalar whose gradient with respect to the logits is known already."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad_output, None, None


def _negatives(logits: Tensor, gradient: Tensor, alpha: float, gamma: float) -> Tensor:
    """Loss of logits (B,) whose targets are 0, of each; writes its derivative to `gradient`.

    The loss is alpha p^gamma s with s = -log(1 - p) = softplus(x), and its derivative
    alpha p^gamma (gamma (1 - p) s + p), since dp/dx = p (1 - p) and ds/dx = p.
    """
    p = logits.sigmoid()
    softplus = F.softplus(logits)
    weight = p.pow(gamma).mul_(alpha)
    torch.sub(1, p, out=gradient)
    gradient.mul_(softplus).mul_(gamma).add_(p).mul_(weight)
    return weight.mul_(softplus)
