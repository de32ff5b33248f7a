"""3x3 convolution with a quarter of the multiplications, by Winograd's F(4x4, 3x3).

A tile of 4x4 outputs is A^T [(G w G^T) * (B^T d B)] A, of the kernel w and the 6x6 inputs d that
the tile reads (https://arxiv.org/abs/1509.09308, section 4.3): over all tiles 36 matrix products,
in inference on a CPU. cuDNN does so by itself, PyTorch's convolution on x86 does not.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

TILE, PATCH = 4, 6  # side of a tile of outputs, and of the inputs that it reads
# Measured (benchmarks/convolution.py): with fewer channels the transforms, with fewer tiles the
# kernel's, take longer than what the products save; and images are computed one by one.
MIN_CHANNELS, MIN_TILES, MIN_TILES_OF_IMAGE = 128, 128, 60
# Tiles that are transformed together: their patches, 36 numbers a channel, stay in the cache.
TILES_AT_ONCE = 70


def _along_both_axes(matrix: list[list[int]], scale: float = 1.0) -> Tensor:
    """M x M^T of a patch x as one matrix that multiplies the patch laid out as a column."""
    exact = torch.tensor(matrix, dtype=torch.float64) * scale
    return torch.kron(exact, exact).float()


_B_T = [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0]]
_B_T += [[0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]]
_G_TIMES_24 = [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]
_A_T = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]
INPUT_TRANSFORM = _along_both_axes(_B_T)  # (36, 36)
KERNEL_TRANSFORM = _along_both_axes(_G_TIMES_24, 1 / 24)  # (36, 9)
OUTPUT_TRANSFORM = _along_both_axes(_A_T)  # (16, 36)


def conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, *arguments: Any) -> Tensor:
    """`F.conv2d`, as Winograd's where that is faster; `arguments`: stride to groups.

    The two differ by rounding (1e-5), and an input that is not finite spoils its whole tile.
    """
    if arguments == ((1, 1), (1, 1), (1, 1), 1) and winograd_pays(x, weight):
        return winograd_convolution(x, weight, bias)
    return F.conv2d(x, weight, bias, *arguments)


def winograd_pays(x: Tensor, weight: Tensor) -> bool:
    """Whether Winograd's form of a convolution, dense, stride and padding 1, is the faster one."""
    if torch.jit.is_tracing() or torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
        return False
    learns = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    if learns or x.device.type != "cpu" or not x.dtype == weight.dtype == torch.float32:
        return False
    if weight.shape[2:] != (3, 3) or min(weight.shape[:2]) < MIN_CHANNELS:
        return False
    tiles = -(-x.shape[2] // TILE) * -(-x.shape[3] // TILE)
    return tiles >= MIN_TILES_OF_IMAGE and x.shape[0] * tiles >= MIN_TILES


@torch.no_grad()
def winograd_convolution(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve x (N, C, H, W) with (Cout, C, 3, 3), stride and padding 1 -> channels last."""
    height, width = x.shape[2:]
    kernel = KERNEL_TRANSFORM @ weight.permute(2, 3, 1, 0).reshape(9, -1)
    kernel = kernel.view(PATCH**2, weight.shape[1], -1)
    # A map in whole tiles, computed in strips of some rows of tiles.
    columns = -(-width // TILE)
    rows = min(-(-height // TILE), max(1, TILES_AT_ONCE // columns))
    strips = -(-height // (rows * TILE))
    below, right = strips * rows * TILE - height, columns * TILE - width
    inputs = F.pad(x, (1, 1 + right, 1, 1 + below)).permute(0, 2, 3, 1).contiguous()
    out = x.new_empty(len(x), strips * rows * TILE, columns * TILE, kernel.shape[2])
    # Two pieces of memory, written in turns: less of it stays in the cache.
    rooms = x.new_empty(2, PATCH**2 * rows * columns * max(kernel.shape[1:]))
    for image, image_out in zip(inputs, out):
        patches = image.unfold(0, PATCH, TILE).unfold(1, PATCH, TILE).split(rows)
        places = image_out.unflatten(1, (-1, TILE)).unflatten(0, (-1, TILE)).split(rows)
        for strip, place in zip(patches, places):
            place.permute(1, 3, 0, 2, 4).copy_(_strip(strip, kernel, bias, *rooms))
    return out[:, :height, :width].permute(0, 3, 1, 2)


def _strip(
    patches: Tensor, kernel: Tensor, bias: Tensor | None, room: Tensor, other_room: Tensor
) -> Tensor:
    """From patches (R, T, C, 6, 6) and a transformed kernel to tiles (4, 4, R, T, Cout)."""
    (rows, columns, channels), out_channels = patches.shape[:3], kernel.shape[2]
    size, out_size = rows * columns * channels, rows * columns * out_channels
    inputs, transformed = (r[: PATCH**2 * size].view(PATCH**2, size) for r in (room, other_room))
    products, tiles = room[: PATCH**2 * out_size], other_room[: TILE**2 * out_size]
    products, tiles = products.view(PATCH**2, -1, out_channels), tiles.view(TILE**2, -1)
    inputs.view(PATCH, PATCH, rows, columns, channels).copy_(patches.permute(3, 4, 0, 1, 2))
    torch.mm(INPUT_TRANSFORM, inputs, out=transformed)
    torch.bmm(transformed.view(PATCH**2, -1, channels), kernel, out=products)
    torch.mm(OUTPUT_TRANSFORM, products.flatten(1), out=tiles)
    tiles = tiles.view(TILE, TILE, rows, columns, out_channels)
    return tiles if bias is None else tiles.add_(bias)
