#!/usr/bin/env python3
"""The star-shaped convolution: three ways to take the same sum, forward and backward.

    python benchmarks/star_deform_conv.py --size 100x136 --channels 256

torchvision's `deform_conv2d`; nine `grid_sample`s side by side and a 1x1 convolution; and the
gathering of vfnet/modeling/star_deform_conv.py. Where Detectron2's kernel runs (CUDA), it is the
fourth. Each starts from distances of random boxes, as the head has them. The last lines are the
largest differences from torchvision's result and gradients, by the largest value there.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Callable, Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import deform_conv2d

from vfnet.engine import report_errors
from vfnet.evaluation.benchmark_cases import (
    forward_and_backward,
    get_parser,
    report,
    run_cases,
    size,
)
from vfnet.modeling.star_deform_conv import (
    StarDeformConv,
    gather_convolution,
    kernel_runs,
    sampling_points,
    star_offsets,
)

STRIDE = 8


def random_inputs(
    images: int, height: int, width: int, channels: int, device: str = "cpu"
) -> dict[str, Tensor]:
    """Features, distances to a box's sides in pixels, and a kernel; all take a gradient."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(images, channels, height, width, generator=generator)
    distances = STRIDE * 8 * torch.rand(images, 4, height, width, generator=generator)
    weight = torch.randn(channels, channels, 3, 3, generator=generator) * (9 * channels) ** -0.5
    inputs = {"x": x, "distances": distances, "weight": weight}
    return {name: nn.Parameter(tensor.to(device)) for name, tensor in inputs.items()}


def grid_sample_convolution(x: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    """The nine taps by one `grid_sample`, and a 1x1 convolution over all their channels."""
    n, channels, height, width = x.shape
    dy, dx = offset.view(n, 9, 2, height, width).unbind(dim=2)  # (N, 9, H, W) each
    tap = torch.arange(9, device=x.device).view(9, 1, 1)
    y = dy + (torch.arange(height, device=x.device)[:, None] + tap // 3 - 1)
    x_place = dx + (torch.arange(width, device=x.device) + tap % 3 - 1)
    # From cells to -1 ... 1, from the edge of the first cell to that of the last.
    grid = torch.stack(((2 * x_place + 1) / width - 1, (2 * y + 1) / height - 1), dim=-1)
    samples = F.grid_sample(x, grid.view(n, 9 * height, width, 2), align_corners=False)
    samples = samples.view(n, channels * 9, height, width)
    return F.conv2d(samples, weight.view(weight.shape[0], channels * 9, 1, 1))


def gathering(x: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    """This project's way."""
    return gather_convolution(x, sampling_points(offset), weight)


def functions(inputs: Mapping[str, Tensor]) -> dict[str, Callable[[], Tensor]]:
    """The ways to compute the same, by name."""
    x, distances, weight = inputs.values()

    def at_star(convolve: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[[], Tensor]:
        return lambda: convolve(x, star_offsets(distances, STRIDE), weight)

    ways = {
        "deform_conv2d": at_star(partial(deform_conv2d, padding=1)),
        "grid_sample": at_star(grid_sample_convolution),
        "gathering": at_star(gathering),
    }
    if kernel_runs(x):
        layer = StarDeformConv(x.shape[1], len(weight))
        layer.weight = weight
        ways["Detectron2's kernel"] = at_star(lambda x, offset, _: layer(x, offset))
    return ways


def differences(
    ways: Mapping[str, Callable[[], Tensor]], inputs: Mapping[str, Tensor]
) -> dict[str, dict[str, float]]:
    """Largest difference of result and gradients from the first way's, by their largest value."""
    values = {}
    for name, way in ways.items():
        out = way()
        # Weighted, so that every place has a gradient of its own.
        weights = torch.linspace(-1, 1, out.numel(), device=out.device).view_as(out)
        gradients = torch.autograd.grad((out * weights).sum(), list(inputs.values()))
        values[name] = {"result": out.detach(), **dict(zip(inputs, gradients))}
    first = next(iter(values.values()))
    return {
        name: {
            f"difference, {what}": (
                (tensor - first[what]).abs().max() / first[what].abs().max()
            ).item()
            for what, tensor in tensors.items()
        }
        for name, tensors in values.items()
    }


def parse_arguments(arguments: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = get_parser(__doc__)
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--size", default="100x136", metavar="HxW", help="of the features")
    parser.add_argument("--channels", type=int, default=256)
    return parser.parse_args(arguments)


def main(arguments: Optional[Sequence[str]] = None) -> None:
    args = parse_arguments(arguments)
    inputs = random_inputs(args.images, *size(args.size), args.channels, args.device)
    ways = functions(inputs)
    case = f"{args.images} x {args.channels} x {args.size}"
    runs = {name: forward_and_backward(way, list(inputs.values())) for name, way in ways.items()}
    results, samples = run_cases({case: runs}, args.repeats, args.warm_up, args.device)
    for name, rows in differences(ways, inputs).items():
        results[name].update(rows)
    report(args, results, samples)


if __name__ == "__main__":
    with report_errors():
        main(sys.argv[1:])
