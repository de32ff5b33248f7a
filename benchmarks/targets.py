#!/usr/bin/env python3
"""Targets of a batch: image by image, and all images in one go as `assign_targets` does.

python benchmarks/targets.py --images 16 --size 800x1333 --boxes 30
"""

import argparse
import sys
from collections.abc import Sequence

import torch
from detectron2.structures import Boxes, Instances

from lib.cases import get_parser, report, run_cases, size, timed
from lib.models import random_boxes
from lib.timing import Run
from vfnet.modeling.matching.atss import atss_match_batch
from vfnet.modeling.matching.targets import Targets, assign_targets
from vfnet.processes import report_errors

STRIDES = (8, 16, 32, 64, 128)
DIVISIBILITY = 32


def random_instances(images: int, height: int, width: int, boxes: int) -> list[Instances]:
    generator = torch.Generator().manual_seed(0)
    instances = []
    for _ in range(images):
        gt = Instances((height, width))
        gt.gt_boxes = Boxes(random_boxes(boxes, height, width, generator))
        gt.gt_classes = torch.randint(80, (boxes,), generator=generator)
        instances.append(gt)
    return instances


def assign(gt_instances: list[Instances], height: int, width: int) -> Targets:
    """Targets of images of one size, as `LocationDetector.assign` finds them."""
    padded = [-(-side // DIVISIBILITY) * DIVISIBILITY for side in (height, width)]
    sizes = [(-(-padded[0] // stride), -(-padded[1] // stride)) for stride in STRIDES]
    image_sizes = [(height, width)] * len(gt_instances)
    return assign_targets(gt_instances, image_sizes, sizes, STRIDES, DIVISIBILITY, atss_match_batch)


def assign_one_by_one(gt_instances: list[Instances], height: int, width: int) -> Targets:
    """The same, image by image, put together."""
    parts = [assign([gt], height, width) for gt in gt_instances]
    locations = len(parts[0].valid)
    return Targets(
        torch.cat([part.index + i * locations for i, part in enumerate(parts)]),
        torch.cat([part.classes for part in parts]),
        torch.cat([part.boxes for part in parts]),
        torch.cat([part.valid for part in parts]),
        torch.stack([part.gts_without_positive for part in parts]).sum(),
        torch.cat([part.image_sizes for part in parts]),
    )


def variants(
    images: int, height: int, width: int, boxes: int, device: str = "cpu"
) -> dict[str, Run]:
    """Both ways for a batch with random boxes."""
    gt_instances = [gt.to(device) for gt in random_instances(images, height, width, boxes)]
    return {
        "image by image": timed(lambda: assign_one_by_one(gt_instances, height, width)),
        "assign_targets": timed(lambda: assign(gt_instances, height, width)),
    }


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = get_parser(__doc__)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--size", default="800x1333", metavar="HxW")
    parser.add_argument("--boxes", type=int, default=30, help="of each image")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse_arguments(arguments)
    case = f"{args.images} images of {args.size}, {args.boxes} boxes each"
    cases = {case: variants(args.images, *size(args.size), args.boxes, args.device)}
    report(args, *run_cases(cases, args.repeats, args.warm_up, args.device))


if __name__ == "__main__":
    with report_errors():
        main(sys.argv[1:])
