#!/usr/bin/env python3
"""3x3 convolution: PyTorch's, and Winograd's.

python benchmarks/convolution.py --maps 256x100x136 256x50x68
"""

import argparse
import sys
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from lib.cases import (
    forward_and_backward,
    get_parser,
    map_size,
    report,
    run_cases,
    timed,
)
from lib.timing import Run
from vfnet.engine import report_errors
from vfnet.layers.winograd import WinogradConvolution

# Of R-50 at 800x1088: res2 to res5, and P3 to P5.
MAPS = ("64x200x272", "128x100x136", "256x50x68", "512x25x34", "256x100x136", "256x25x34")


def variants(
    channels: int, height: int, width: int, training: bool, device: str = "cpu"
) -> dict[str, Run]:
    """Both ways: without gradients and with channels last, or forward and backward without."""
    generator = torch.Generator().manual_seed(0)
    shapes = (1, channels, height, width), (channels, channels, 3, 3), (channels,)
    x, weight, bias = (torch.randn(s, generator=generator).to(device) * 0.01 for s in shapes)

    def plain() -> Tensor:
        return F.conv2d(x, weight, bias, padding=1)

    def winograd() -> Tensor:
        return WinogradConvolution.apply(x, weight, bias)

    if training:
        inputs = [tensor.requires_grad_() for tensor in (x, weight, bias)]
        return {
            "conv2d": forward_and_backward(plain, inputs),
            "Winograd": forward_and_backward(winograd, inputs),
        }
    x = x.contiguous(memory_format=torch.channels_last)
    return {"conv2d": timed(plain, "forward"), "Winograd": timed(winograd, "forward")}


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = get_parser(__doc__)
    parser.add_argument("--maps", nargs="+", default=MAPS, metavar="CxHxW")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse_arguments(arguments)
    cases = {
        f"{text}, {phase}": variants(*map_size(text), phase == "training", args.device)
        for phase in ("inference", "training")
        for text in args.maps
    }
    report(args, *run_cases(cases, args.repeats, args.warm_up, args.device))


if __name__ == "__main__":
    with report_errors():
        main(sys.argv[1:])
