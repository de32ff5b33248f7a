#!/usr/bin/env python3
"""The deformable convolutions of VFNet: ways to take the same sum, forward and backward.

    python benchmarks/star_deform_conv.py --size 100x136 --channels 256
    python benchmarks/star_deform_conv.py --modulated --device cuda --precision bfloat16

torchvision's `deform_conv2d`; nine `grid_sample`s side by side and a 1x1 convolution; the same in
parts (vfnet/layers/grid_conv.py, the star alone), which keeps no samples for the backward pass; the
gathering of vfnet/layers/gather_conv.py; and on CUDA Detectron2's kernel. Each starts from
distances of random boxes, as the star in the head; with --modulated from random offsets and a mask,
as DCNv2. Both kernels are in float32 under autocast, since half precision would move the samples.
--compile adds what torch.compile makes of the two that are no kernels; on CUDA that is Triton.

The last lines are the largest differences from torchvision's float32 result and gradients, by the
largest value there.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence

import torch
from detectron2 import _C
from detectron2.layers.deform_conv import modulated_deform_conv
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import deform_conv2d

from lib.cases import (
    forward_and_backward,
    get_parser,
    report,
    run_cases,
    size,
)
from lib.device import autocast, check_device
from vfnet.layers.gather_conv import gather_convolution, sampling_points
from vfnet.layers.grid_conv import grid_convolution, sampling_grid
from vfnet.layers.star_conv import star_offsets
from vfnet.processes import report_errors
from vfnet.utils.precision import PRECISIONS

STRIDE = 8

# x (N, C, H, W), offset (N, 18, H, W), mask (N, 9, H, W) or None for ones, and kernel -> result.
Convolution = Callable[[Tensor, Tensor, Tensor | None, Tensor], Tensor]


def random_inputs(
    images: int,
    height: int,
    width: int,
    channels: int,
    device: str = "cpu",
    modulated: bool = False,
) -> dict[str, Tensor]:
    """What a layer is given; all take a gradient.

    x and weight; of the star the distances to a box's sides in pixels, of DCNv2 offsets and mask.
    """
    generator = torch.Generator().manual_seed(0)
    place = (height, width)
    x = torch.randn(images, channels, *place, generator=generator)
    distances = STRIDE * 8 * torch.rand(images, 4, *place, generator=generator)
    weight = torch.randn(channels, channels, 3, 3, generator=generator) * (9 * channels) ** -0.5
    inputs = {"x": x, "weight": weight}
    if modulated:
        inputs["offset"] = 2 * torch.randn(images, 18, *place, generator=generator)
        inputs["mask"] = torch.rand(images, 9, *place, generator=generator)
    else:
        inputs["distances"] = distances
    return {name: nn.Parameter(tensor.to(device)) for name, tensor in inputs.items()}


def torchvision_kernel(x: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        return deform_conv2d(x, offset, weight, padding=1, mask=mask)


def detectron2_kernel(x: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor) -> Tensor:
    if mask is None:
        mask = offset.new_ones(len(x), 9, *x.shape[-2:])
    with torch.autocast(x.device.type, enabled=False):
        return modulated_deform_conv(x, offset, mask, weight, None, 1, 1, 1, 1, 1)


def grid_sampling(x: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor) -> Tensor:
    """The nine taps by one `grid_sample`, and a 1x1 convolution over all their channels."""
    n, channels, height, width = x.shape
    dy, dx = offset.view(n, 9, 2, height, width).unbind(dim=2)  # (N, 9, H, W) each
    tap = torch.arange(9, device=x.device).view(9, 1, 1)
    y = dy + (torch.arange(height, device=x.device)[:, None] + tap // 3 - 1)
    x_place = dx + (torch.arange(width, device=x.device) + tap % 3 - 1)
    # From cells to -1 ... 1, from the edge of the first cell to that of the last.
    grid = torch.stack(((2 * x_place + 1) / width - 1, (2 * y + 1) / height - 1), dim=-1)
    samples = F.grid_sample(x, grid.view(n, 9 * height, width, 2), align_corners=False)
    samples = samples.view(n, channels, 9, height, width)
    if mask is not None:
        samples = samples * mask[:, None]
    return F.conv2d(samples.flatten(1, 2), weight.view(weight.shape[0], channels * 9, 1, 1))


def grid_in_parts(x: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor) -> Tensor:
    """The star's way on a GPU."""
    assert mask is None
    return grid_convolution(x, sampling_grid(offset), weight)


def gathering(x: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor) -> Tensor:
    """The star's way elsewhere."""
    return gather_convolution(x, sampling_points(offset, mask), weight)


def convolutions(
    device: str, compiled: bool = False, modulated: bool = False
) -> dict[str, Convolution]:
    """The ways that there are on a device, by name."""
    ways: dict[str, Convolution] = {
        "deform_conv2d": torchvision_kernel,
        "grid_sample": grid_sampling,
        "gathering": gathering,
    }
    if not modulated:
        ways["grid_sample in parts"] = grid_in_parts
    if device.startswith("cuda") and _C.has_cuda():
        ways["Detectron2's kernel"] = detectron2_kernel
    if compiled:
        for name in ("grid_sample", "gathering"):
            ways[f"{name}, compiled"] = torch.compile(ways[name])
    return ways


def layer_of(
    convolve: Convolution, inputs: Mapping[str, Tensor], precision: torch.dtype | None = None
) -> Callable[[], Tensor]:
    """A layer that takes its inputs in one way: the star or DCNv2, as `inputs` are."""
    x, weight = inputs["x"], inputs["weight"]

    def layer() -> Tensor:
        with autocast(x.device.type, precision):
            if "mask" in inputs:
                return convolve(x, inputs["offset"], inputs["mask"], weight)
            return convolve(x, star_offsets(inputs["distances"], STRIDE), None, weight)

    return layer


def result_and_gradients(
    layer: Callable[[], Tensor], inputs: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    out = layer().float()
    # Weighted, so that every place has a gradient of its own.
    weights = torch.linspace(-1, 1, out.numel(), device=out.device).view_as(out)
    gradients = torch.autograd.grad((out * weights).sum(), list(inputs.values()))
    return {"result": out.detach(), **dict(zip(inputs, gradients))}


def differences(
    layers: Mapping[str, Callable[[], Tensor]], inputs: Mapping[str, Tensor]
) -> dict[str, dict[str, float]]:
    """Largest difference of result and gradients from torchvision's in float32.

    By the largest value there.
    """
    exact = result_and_gradients(layer_of(torchvision_kernel, inputs), inputs)
    return {
        name: {
            f"difference, {what}": (
                (tensor - exact[what]).abs().max() / exact[what].abs().max()
            ).item()
            for what, tensor in result_and_gradients(layer, inputs).items()
        }
        for name, layer in layers.items()
    }


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = get_parser(__doc__)
    add = parser.add_argument
    add("--images", type=int, default=1)
    add("--size", default="100x136", metavar="HxW", help="of the features")
    add("--channels", type=int, default=256)
    add("--modulated", action="store_true", help="DCNv2 in place of the star")
    add("--precision", choices=list(PRECISIONS), default="float32")
    add("--compile", action="store_true", help="what torch.compile makes of them, too")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse_arguments(arguments)
    check_device(args.device, args.precision)
    inputs = random_inputs(
        args.images, *size(args.size), args.channels, args.device, args.modulated
    )
    layers = {
        name: layer_of(convolve, inputs, PRECISIONS[args.precision])
        for name, convolve in convolutions(args.device, args.compile, args.modulated).items()
    }
    case = f"{args.images} x {args.channels} x {args.size}, {args.precision}"
    runs = {name: forward_and_backward(run, list(inputs.values())) for name, run in layers.items()}
    results, samples = run_cases({case: runs}, args.repeats, args.warm_up, args.device)
    for name, rows in differences(layers, inputs).items():
        results[name].update(rows)
    report(args, results, samples)


if __name__ == "__main__":
    with report_errors():
        main(sys.argv[1:])
