#!/usr/bin/env python3
"""3x3 convolution in inference: PyTorch's, and Winograd's.

python benchmarks/convolution.py --maps 256x100x136 256x50x68
"""

import argparse
import sys
from collections.abc import Sequence

import torch
from torch.nn import functional as F

from lib.cases import get_parser, map_size, report, run_cases, timed
from lib.timing import Run
from vfnet.layers.winograd import winograd_convolution
from vfnet.processes import report_errors

# Of R-50 at 800x1088: res2 to res5, and P3 to P5.
MAPS = ("64x200x272", "128x100x136", "256x50x68", "512x25x34", "256x100x136", "256x25x34")


def variants(channels: int, height: int, width: int, device: str = "cpu") -> dict[str, Run]:
    """Both ways, without gradients and with channels last."""
    generator = torch.Generator().manual_seed(0)
    shapes = (1, channels, height, width), (channels, channels, 3, 3), (channels,)
    x, weight, bias = (torch.randn(s, generator=generator).to(device) * 0.01 for s in shapes)
    x = x.contiguous(memory_format=torch.channels_last)
    return {
        "conv2d": timed(lambda: F.conv2d(x, weight, bias, padding=1)),
        "Winograd": timed(lambda: winograd_convolution(x, weight, bias)),
    }


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = get_parser(__doc__)
    parser.add_argument("--maps", nargs="+", default=MAPS, metavar="CxHxW")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse_arguments(arguments)
    cases = {text: variants(*map_size(text), args.device) for text in args.maps}
    report(args, *run_cases(cases, args.repeats, args.warm_up, args.device))


if __name__ == "__main__":
    with report_errors():
        main(sys.argv[1:])
