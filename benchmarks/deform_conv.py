#!/usr/bin/env python3
"""DCNv2, the modulated 3x3 deformable convolution: torchvision's kernel, and gathering in parts.

python benchmarks/deform_conv.py --maps 128x100x136 256x100x136/2

A map is what the layer gets, "/2" says that its stride is 2. Offsets are about one cell, normally
distributed.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torchvision.ops import deform_conv2d

from lib.cases import forward_and_backward, get_parser, map_size, report, run_cases, timed
from lib.timing import Run
from vfnet.errors import UserError
from vfnet.layers.gather_conv import gather_convolution, sampling_points
from vfnet.processes import report_errors

# Of R-50 at 800x1088, res3 to res5: the first block, and the others.
MAPS = ("128x200x272/2", "128x100x136", "256x100x136/2", "256x50x68", "512x50x68/2", "512x25x34")


def random_inputs(
    channels: int, height: int, width: int, stride: int, device: str = "cpu"
) -> list[Tensor]:
    """x (1, C, H, W), offset (1, 18, Hout, Wout), mask (1, 9, Hout, Wout), kernel (C, C, 3, 3)."""
    generator = torch.Generator().manual_seed(0)
    out = (-(-height // stride), -(-width // stride))
    x = torch.randn(1, channels, height, width, generator=generator)
    offset = torch.randn(1, 18, *out, generator=generator)
    mask = torch.rand(1, 9, *out, generator=generator)
    weight = torch.randn(channels, channels, 3, 3, generator=generator) * (9 * channels) ** -0.5
    return [tensor.to(device) for tensor in (x, offset, mask, weight)]


def torchvision_kernel(
    x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, stride: int
) -> Tensor:
    return deform_conv2d(x, offset, weight, stride=stride, padding=1, mask=mask)


def gathering(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, stride: int) -> Tensor:
    return gather_convolution(x, sampling_points(offset, mask, stride, x.shape[-2:]), weight)


WAYS: dict[str, Callable[..., Tensor]] = {
    "deform_conv2d": torchvision_kernel,
    "gathering": gathering,
}


def variants(
    channels: int, height: int, width: int, stride: int, training: bool, device: str = "cpu"
) -> dict[str, Run]:
    """Both ways: without gradients and with channels last, or forward and backward without."""
    inputs = random_inputs(channels, height, width, stride, device)
    if training:
        inputs = [tensor.requires_grad_() for tensor in inputs]
        return {
            name: forward_and_backward(partial(way, *inputs, stride), inputs)
            for name, way in WAYS.items()
        }
    inputs[0] = inputs[0].contiguous(memory_format=torch.channels_last)
    return {name: timed(partial(way, *inputs, stride), "forward") for name, way in WAYS.items()}


def read_case(text: str) -> tuple[int, int, int, int]:
    """Read CxHxW or CxHxW/STRIDE, with stride 1 or 2."""
    map_text, slash, stride = text.partition("/")
    if slash and stride not in ("1", "2"):
        raise UserError(f"expected a map as CxHxW, or as CxHxW/2 for stride 2, got {text!r}")
    return (*map_size(map_text), int(stride or 1))


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = get_parser(__doc__)
    parser.add_argument("--maps", nargs="+", default=MAPS, metavar="CxHxW[/2]")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse_arguments(arguments)
    cases = {
        f"{text}, {phase}": variants(*read_case(text), phase == "training", args.device)
        for phase in ("inference", "training")
        for text in args.maps
    }
    report(args, *run_cases(cases, args.repeats, args.warm_up, args.device))


if __name__ == "__main__":
    with report_errors():
        main(sys.argv[1:])
