"""3x3 convolution with a quarter of the multiplications, by Winograd's F(4x4, 3x3).

A tile of 4x4 outputs is A^T [(G w G^T) * (B^T d B)] A, of the kernel w and the 6x6 inputs d that
the tile reads (https://arxiv.org/abs/1509.09308, section 4.3): 36 products for each pair of
channels in place of 144. Over all tiles these are 36 matrix products. cuDNN does so by itself,
PyTorch's convolution on x86 does not.
"""

from typing import Any, Optional

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight

TILE, PATCH = 4, 6  # side of a tile of outputs, and of the inputs that it reads

_B_T = [
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
]
_G_TIMES_24 = [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]
_A_T = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]


def _along_both_axes(matrix: list[list[int]], scale: float = 1.0) -> Tensor:
    """M x M^T of a patch x as one matrix that multiplies the patch laid out as a column."""
    exact = torch.tensor(matrix, dtype=torch.float64) * scale
    return torch.kron(exact, exact).float()


INPUT_TRANSFORM = _along_both_axes(_B_T)  # (36, 36)
KERNEL_TRANSFORM = _along_both_axes(_G_TIMES_24, 1 / 24)  # (36, 9)
OUTPUT_TRANSFORM = _along_both_axes(_A_T)  # (16, 36)

# Measured (benchmarks/convolution.py): with fewer channels the transforms, with fewer tiles the
# kernel's, take longer than what the products save.
MIN_CHANNELS, MIN_TILES = 128, 128
# Tiles that are transformed together: their patches, 36 numbers a channel, stay in the cache.
TILES_AT_ONCE = 70


def conv2d(x: Tensor, weight: Tensor, bias: Optional[Tensor], *arguments: Any) -> Tensor:
    """`F.conv2d`, as Winograd's where that is faster; the two differ by rounding (1e-5).

    Args:
        x, weight, bias: (N, C, H, W), (Cout, C / groups, kh, kw), (Cout,) or None.
        arguments: stride, padding, dilation (two numbers each) and groups.
    """
    if arguments == ((1, 1), (1, 1), (1, 1), 1) and winograd_pays(x, weight):
        return WinogradConvolution.apply(x, weight, bias)
    return F.conv2d(x, weight, bias, *arguments)


def winograd_pays(x: Tensor, weight: Tensor) -> bool:
    """Whether Winograd's form of a convolution, dense, stride and padding 1, is the faster one."""
    if torch.jit.is_tracing() or torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
        return False
    if x.is_cuda or not x.dtype == weight.dtype == torch.float32 or weight.shape[2:] != (3, 3):
        return False
    tiles = x.shape[0] * -(-x.shape[2] // TILE) * -(-x.shape[3] // TILE)
    return min(weight.shape[:2]) >= MIN_CHANNELS and tiles >= MIN_TILES


class WinogradConvolution(Function):
    """The gradient of the input is such a convolution too; that of the kernel stays PyTorch's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Optional[Tensor]) -> Tensor:
        ctx.save_for_backward(x, weight)
        return winograd_convolution(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        grad_x = grad_weight = grad_bias = None
        if wants_x:
            grad_x = winograd_convolution(grad, weight.flip(2, 3).transpose(0, 1))
        if wants_weight:
            grad_weight = conv2d_weight(x, weight.shape, grad, padding=1)
        if wants_bias:
            grad_bias = grad.sum(dim=(0, 2, 3))
        return grad_x, grad_weight, grad_bias


def winograd_convolution(x: Tensor, weight: Tensor, bias: Optional[Tensor] = None) -> Tensor:
    """Convolve x (N, C, H, W) with 3x3 kernels (Cout, C, 3, 3), stride 1 and padding 1.

    Returns:
        (N, Cout, H, W), its memory laid out as that of x.
    """
    n, _, height, width = x.shape
    out_channels, channels = weight.shape[:2]
    kernel = KERNEL_TRANSFORM @ weight.permute(2, 3, 1, 0).reshape(9, -1)
    kernel = kernel.view(PATCH**2, channels, out_channels)

    rows, columns = -(-height // TILE), -(-width // TILE)
    out = x.new_empty(n, TILE * rows, TILE * columns, out_channels)
    # Channels of a pixel together, as the matrix products want them.
    images = x.permute(0, 2, 3, 1)

    strip = min(rows, max(1, TILES_AT_ONCE // columns)) * TILE  # rows of the map
    padded = x.new_zeros(strip + 2, TILE * columns + 2, channels)
    buffers = x.new_empty(2, PATCH**2 * strip // TILE * columns * max(channels, out_channels))
    for image, image_out in zip(images, out):
        for top in range(0, TILE * rows, strip):
            _cut(image, top - 1, padded)
            outputs = image_out[top : top + strip]
            _convolve_strip(padded[: len(outputs) + 2], kernel, bias, outputs, buffers)
    layout = (
        torch.channels_last
        if x.is_contiguous(memory_format=torch.channels_last)
        else torch.contiguous_format
    )
    return out[:, :height, :width].permute(0, 3, 1, 2).contiguous(memory_format=layout)


def _cut(image: Tensor, top: int, padded: Tensor) -> None:
    """Copy rows of image (H, W, C) from `top` on into `padded`, from column 1 on; 0 outside."""
    height, width, _ = image.shape
    first, last = max(top, 0), min(top + len(padded), height)
    padded[: first - top] = 0
    padded[first - top : last - top, 1 : 1 + width] = image[first:last]
    padded[last - top :] = 0


def _convolve_strip(
    inputs: Tensor, kernel: Tensor, bias: Optional[Tensor], outputs: Tensor, buffers: Tensor
) -> None:
    """Compute some rows of tiles.

    Args:
        inputs: (4 R + 2, 4 T + 2, C), for R rows of T tiles.
        kernel: (36, C, Cout), transformed.
        bias: (Cout,), or None.
        outputs: (4 R, 4 T, Cout), written.
        buffers: two of at least 36 R T max(C, Cout) numbers, written in turns.
    """
    _, channels, out_channels = kernel.shape
    rows, columns = outputs.shape[0] // TILE, outputs.shape[1] // TILE
    tiles = rows * columns

    def room(which: int, *shape: int) -> Tensor:
        return buffers[which, : shape[0] * shape[1]].view(shape)

    patches = room(0, PATCH**2, tiles * channels)
    overlapping = inputs.unfold(0, PATCH, TILE).unfold(1, PATCH, TILE)  # (R, T, C, 6, 6)
    patches.view(PATCH, PATCH, rows, columns, channels).copy_(overlapping.permute(3, 4, 0, 1, 2))
    transformed = torch.mm(INPUT_TRANSFORM, patches, out=room(1, PATCH**2, tiles * channels))
    products = room(0, PATCH**2, tiles * out_channels)
    torch.bmm(
        transformed.view(PATCH**2, tiles, channels),
        kernel,
        out=products.view(PATCH**2, tiles, out_channels),
    )
    values = torch.mm(OUTPUT_TRANSFORM, products, out=room(1, TILE**2, tiles * out_channels))
    values = values.view(TILE, TILE, rows, columns, out_channels)
    if bias is not None:
        values += bias
    outputs.view(rows, TILE, columns, TILE, out_channels).copy_(values.permute(2, 0, 3, 1, 4))
