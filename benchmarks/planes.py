#!/usr/bin/env python3
"""A picture from (H, W, C) to (C, H, W): NumPy's transposition, and OpenCV's `split`.

python benchmarks/planes.py --size 800x1067
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial

import numpy as np

from lib.cases import Cases, get_parser, report, run_cases, size, timed
from vfnet.data.transforms.planes import as_planes
from vfnet.processes import report_errors


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = get_parser(__doc__)
    parser.set_defaults(repeats=30)
    parser.add_argument("--size", type=size, default=(800, 1067), metavar="HxW")
    return parser.parse_args(arguments)


def transposed(image: np.ndarray) -> np.ndarray:
    """As Detectron2's mapper does it."""
    return np.ascontiguousarray(image.transpose(2, 0, 1))


def split(image: np.ndarray) -> np.ndarray:
    """As this project's mapper prepares it for Detectron2's, which then copies nothing."""
    return transposed(as_planes(image))


def cases_of(height: int, width: int) -> Cases:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    views = {"as it is": image, "flipped": np.flip(image, axis=1)}
    return {
        name: {f.__name__: timed(partial(f, view)) for f in (transposed, split)}
        for name, view in views.items()
    }


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse_arguments(arguments)
    report(args, *run_cases(cases_of(*args.size), args.repeats, args.warm_up, "cpu"))


if __name__ == "__main__":
    with report_errors():
        main(sys.argv[1:])
