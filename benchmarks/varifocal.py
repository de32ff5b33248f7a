#!/usr/bin/env python3
"""Varifocal loss of a batch, summed: by autograd, and with its gradient in the same pass.

python benchmarks/varifocal.py --images 16 --locations 22400 --classes 80
"""

import argparse
import sys
from collections.abc import Sequence

import torch
from torch import Tensor

from lib.cases import (
    forward_and_backward,
    get_parser,
    report,
    run_cases,
)
from lib.timing import Run
from vfnet.modeling.losses.classification import Positives, varifocal_loss
from vfnet.modeling.losses.varifocal_sum import varifocal_loss_sum
from vfnet.processes import report_errors


def random_batch(
    images: int, locations: int, classes: int, positives: int
) -> tuple[Tensor, Positives]:
    """Logits (images x locations, classes), and as many positives in each image."""
    generator = torch.Generator().manual_seed(0)
    rows = images * locations
    logits = torch.randn(rows, classes, generator=generator) - 4
    row = torch.randperm(rows, generator=generator)[: images * positives]
    column = torch.randint(classes, row.shape, generator=generator)
    quality = torch.rand(row.shape, generator=generator).clamp(min=1e-3)
    return logits, Positives(row, column, quality)


def plain_sum(logits: Tensor, positives: Positives) -> Tensor:
    """The sum by autograd, from a dense tensor of targets."""
    targets = torch.zeros_like(logits)
    targets[positives.row, positives.column] = positives.quality
    return varifocal_loss(logits, targets, reduction="sum")


def variants(
    images: int, locations: int, classes: int, positives: int, device: str = "cpu"
) -> dict[str, Run]:
    """Both ways, forward and backward."""
    logits, at = random_batch(images, locations, classes, positives)
    logits = logits.to(device).requires_grad_()
    at = Positives(*(tensor.to(device) for tensor in at))
    return {
        "autograd": forward_and_backward(lambda: plain_sum(logits, at), [logits]),
        "varifocal_loss_sum": forward_and_backward(
            lambda: varifocal_loss_sum(logits, *at), [logits]
        ),
    }


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = get_parser(__doc__)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--locations", type=int, default=22400, help="of an image")
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--positives", type=int, default=250, help="of an image")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse_arguments(arguments)
    shape = (args.images, args.locations, args.classes)
    case = f"{args.images} x {args.locations} x {args.classes}"
    cases = {case: variants(*shape, args.positives, args.device)}
    report(args, *run_cases(cases, args.repeats, args.warm_up, args.device))


if __name__ == "__main__":
    with report_errors():
        main(sys.argv[1:])
