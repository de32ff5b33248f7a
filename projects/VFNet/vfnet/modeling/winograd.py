"""3x3 convolution with a quarter of the multiplications, by Winograd's F(4x4, 3x3).

A tile of 4x4 outputs is A^T [(G w G^T) * (B^T d B)] A, of the kernel w and the 6x6 inputs d that
the tile reads (https://arxiv.org/abs/1509.09308, section 4.3): 36 products for each pair of
channels in place of 144. Over all tiles these are 36 matrix products. cuDNN does so by itself,
PyTorch's convolution on x86 does not.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

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
# kernel's, take longer than what the products save; and images are computed one by one.
MIN_CHANNELS, MIN_TILES, MIN_TILES_OF_IMAGE = 128, 128, 60
# Tiles that are transformed together: their patches, 36 numbers a channel, stay in the cache.
TILES_AT_ONCE = 70


def conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, *arguments: Any) -> Tensor:
    """`F.conv2d`, as Winograd's where that is faster.

    The two differ by rounding (1e-5); an input that is not finite spoils the whole tile around it;
    and Winograd's has a first derivative only.

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
    if x.device.type != "cpu" or not x.dtype == weight.dtype == torch.float32:
        return False
    if weight.shape[2:] != (3, 3) or min(weight.shape[:2]) < MIN_CHANNELS:
        return False
    tiles = -(-x.shape[2] // TILE) * -(-x.shape[3] // TILE)
    return tiles >= MIN_TILES_OF_IMAGE and x.shape[0] * tiles >= MIN_TILES


class WinogradConvolution(Function):
    """The convolution with its gradients, which are taken by Winograd's transforms too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        # Not a view of the tiles: what follows may work in place.
        return winograd_convolution(x, weight, bias).detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        grad_x = grad_weight = grad_bias = None
        if wants_x:
            grad_x = winograd_convolution(grad, weight.flip(2, 3).transpose(0, 1))
        if wants_weight:
            grad_weight = winograd_kernel_gradient(x, grad)
        if wants_bias:
            grad_bias = grad.sum(dim=(0, 2, 3))
        return grad_x, grad_weight, grad_bias


def winograd_convolution(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve x (N, C, H, W) with 3x3 kernels (Cout, C, 3, 3), stride 1 and padding 1.

    Returns:
        (N, Cout, H, W), its memory laid out as that of x.
    """
    n, _, height, width = x.shape
    out_channels, channels = weight.shape[:2]
    kernel = KERNEL_TRANSFORM @ weight.permute(2, 3, 1, 0).reshape(9, -1)
    kernel = kernel.view(PATCH**2, channels, out_channels)

    strips = _Strips(height, width)
    out = x.new_empty(n, strips.height, strips.width, out_channels)
    inputs = x.new_zeros(strips.rows + 2, strips.width + 2, channels)
    # Two pieces of memory, written in turns: less of it stays in the cache.
    rooms = x.new_empty(2, PATCH**2 * strips.tiles * max(channels, out_channels))
    patches, transformed = (_view(room, PATCH**2, strips.tiles, channels) for room in rooms)
    products = _view(rooms[0], PATCH**2, strips.tiles, out_channels)
    tiles = _view(rooms[1], TILE**2, strips.tiles, out_channels)
    for image, image_out in zip(_pixels(x), out):
        for top in range(0, strips.height, strips.rows):
            _cut(image, top - 1, 1, inputs)
            _patches_of(inputs, patches)
            torch.mm(INPUT_TRANSFORM, patches.flatten(1), out=transformed.flatten(1))
            torch.bmm(transformed, kernel, out=products)
            torch.mm(OUTPUT_TRANSFORM, products.flatten(1), out=tiles.flatten(1))
            if bias is not None:
                tiles += bias
            _write_tiles(tiles, image_out[top : top + strips.rows])
    layout = (
        torch.channels_last
        if x.is_contiguous(memory_format=torch.channels_last)
        else torch.contiguous_format
    )
    return out[:, :height, :width].permute(0, 3, 1, 2).contiguous(memory_format=layout)


def winograd_kernel_gradient(x: Tensor, grad: Tensor) -> Tensor:
    """The gradient of `winograd_convolution` in its kernels: each step's transpose, in turn.

    Args:
        x: (N, C, H, W). grad: (N, Cout, H, W), that of the output.

    Returns:
        (Cout, C, 3, 3)
    """
    channels, out_channels = x.shape[1], grad.shape[1]
    strips = _Strips(*x.shape[2:])
    inputs = x.new_zeros(strips.rows + 2, strips.width + 2, channels)
    grads = x.new_zeros(strips.rows, strips.width, out_channels)
    patches, transformed = x.new_empty(2, PATCH**2, strips.tiles, channels)
    products = x.new_empty(PATCH**2, strips.tiles, out_channels)
    total = x.new_zeros(PATCH**2, channels, out_channels)
    for image, image_grad in zip(_pixels(x), _pixels(grad)):
        for top in range(0, strips.height, strips.rows):
            _cut(image, top - 1, 1, inputs)
            _cut(image_grad, top, 0, grads)
            _patches_of(inputs, patches)
            torch.mm(INPUT_TRANSFORM, patches.flatten(1), out=transformed.flatten(1))
            torch.mm(OUTPUT_TRANSFORM.T, _tiles_of(grads), out=products.flatten(1))
            torch.baddbmm(total, transformed.transpose(1, 2), products, out=total)
    kernel = KERNEL_TRANSFORM.T @ total.flatten(1)
    return kernel.view(3, 3, channels, out_channels).permute(3, 2, 0, 1).contiguous()


class _Strips:
    """A map cut into strips, some rows of tiles each.

    height, width: of the map, in whole tiles. rows: of the map in a strip; the last one may reach
    further than the map. tiles: in a strip.
    """

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = (-(-side // TILE) * TILE for side in (height, width))
        tile_rows = max(1, TILES_AT_ONCE // (self.width // TILE))
        self.rows = min(self.height, tile_rows * TILE)
        self.tiles = self.rows * self.width // TILE**2


def _view(room: Tensor, *shape: int) -> Tensor:
    """The first numbers of a piece of memory, in a shape."""
    return room[: math.prod(shape)].view(shape)


def _pixels(x: Tensor) -> Tensor:
    """(N, H, W, C): the channels of a pixel together, as the matrix products want them."""
    return x.permute(0, 2, 3, 1)


def _cut(image: Tensor, top: int, left: int, out: Tensor) -> None:
    """Copy rows of image (H, W, C) from `top` on into `out`, from column `left` on; 0 outside."""
    height, width, _ = image.shape
    first, last = max(top, 0), min(top + len(out), height)
    out[: first - top] = 0
    out[first - top : last - top, left : left + width] = image[first:last]
    out[last - top :] = 0


def _patches_of(inputs: Tensor, out: Tensor) -> None:
    """Write the overlapping patches of inputs (4 R + 2, 4 T + 2, C) to out (36, R T, C)."""
    overlapping = inputs.unfold(0, PATCH, TILE).unfold(1, PATCH, TILE)  # (R, T, C, 6, 6)
    rows, columns, channels = overlapping.shape[:3]
    out = out.view(PATCH, PATCH, rows, columns, channels)
    out.copy_(overlapping.permute(3, 4, 0, 1, 2))


def _tiles_of(outputs: Tensor) -> Tensor:
    """(4 R, 4 T, C) -> (16, R T C)."""
    tiles = outputs.unflatten(1, (-1, TILE)).unflatten(0, (-1, TILE))  # (R, 4, T, 4, C)
    return tiles.permute(1, 3, 0, 2, 4).reshape(TILE**2, -1)


def _write_tiles(tiles: Tensor, outputs: Tensor) -> None:
    """Write tiles (16, at least R T, C) to outputs (4 R, 4 T, C)."""
    places = outputs.unflatten(1, (-1, TILE)).unflatten(0, (-1, TILE)).permute(1, 3, 0, 2, 4)
    rows, columns, channels = places.shape[2:]
    places.copy_(tiles[:, : rows * columns].view(TILE, TILE, rows, columns, channels))
