#!/usr/bin/env python3
"""ATSS assignment of one image: the textbook's matrix of all pairs, and `atss_match`.

python benchmarks/assignment.py
python benchmarks/assignment.py --case 800x1344/43 --case 1408x2112/120
"""

import argparse
import sys
from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import box_iou

from lib.cases import get_parser, report, run_cases, size, timed
from lib.models import random_boxes
from lib.timing import Run
from vfnet.errors import UserError
from vfnet.modeling.locations import grid_points
from vfnet.modeling.matching.atss import atss_match
from vfnet.processes import report_errors

STRIDES = (8, 16, 32, 64, 128)
# The size of an image in pixels, and its boxes; the last has 16 times the area.
CASES = ("800x1344/43", "1408x2112/120", "1408x2112/1000", "1408x2112/3000", "5632x8448/120")

FeatureSizes = Sequence[tuple[int, int]]


def dense_match(
    gt_boxes: Tensor,
    feature_sizes: FeatureSizes,
    strides: Sequence[int],
    topk: int = 9,
    anchor_scale: float = 8.0,
) -> tuple[Tensor, Tensor]:
    """ATSS as its paper writes it down, by the IoU and the distance of every pair.

    Arguments and result as `atss_match`; M boxes, R locations.
    """
    points = grid_points(feature_sizes, strides, gt_boxes.device)  # (R, 2)
    counts = [height * width for height, width in feature_sizes]
    half = torch.cat(
        [points.new_full((n, 1), anchor_scale * s / 2) for n, s in zip(counts, strides)]
    )
    iou = box_iou(torch.cat((points - half, points + half), dim=1), gt_boxes)  # (R, M)
    centres = (gt_boxes[:, :2] + gt_boxes[:, 2:]) / 2
    distance = (points[:, None] - centres[None]).pow(2).sum(dim=-1).sqrt()  # (R, M)

    candidates, start = [], 0
    for level in distance.split(counts):
        nearest = level.topk(min(topk, len(level)), dim=0, largest=False).indices
        candidates.append(nearest + start)
        start += len(level)
    candidate = torch.cat(candidates)  # (k, M)
    candidate_iou = iou.gather(0, candidate)
    threshold = candidate_iou.mean(dim=0) + candidate_iou.std(dim=0)
    place = points[candidate]  # (k, M, 2)
    sides = torch.cat((place - gt_boxes[:, :2], gt_boxes[:, 2:] - place), dim=-1)
    positive = (candidate_iou >= threshold) & (sides.amin(dim=-1) > 0.01)

    claims = torch.full_like(iou, -1.0)
    box = torch.arange(len(gt_boxes), device=gt_boxes.device).expand_as(candidate)
    claims[candidate[positive], box[positive]] = candidate_iou[positive]
    best, gt_index = claims.max(dim=1)
    locations = (best >= 0).nonzero()[:, 0]
    return locations, gt_index[locations]


def feature_sizes_of(height: int, width: int) -> list[tuple[int, int]]:
    return [(-(-height // stride), -(-width // stride)) for stride in STRIDES]


def variants(
    height: int, width: int, boxes: int, device: str = "cpu", largest_gib: float = 4.0
) -> dict[str, Run]:
    """Both ways for an image with random boxes.

    The dense way is left out where its largest tensor, (R, M, 2), would be larger than given.
    """
    gt_boxes = random_boxes(boxes, height, width, torch.Generator().manual_seed(0)).to(device)
    sizes = feature_sizes_of(height, width)
    pairs = sum(h * w for h, w in sizes) * boxes
    runs = {}
    if pairs * 2 * gt_boxes.element_size() <= largest_gib * 2**30:
        runs["dense"] = timed(lambda: dense_match(gt_boxes, sizes, STRIDES))
    runs["atss_match"] = timed(lambda: atss_match(gt_boxes, sizes, STRIDES))
    return runs


def read_case(text: str) -> tuple[int, int, int]:
    """Read HxW/BOXES."""
    pixels, _, boxes = text.partition("/")
    if not boxes.isdecimal():
        raise UserError(f"expected a case as HxW/BOXES, for example {CASES[0]}, got {text!r}")
    return (*size(pixels), int(boxes))


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = get_parser(__doc__)
    parser.add_argument("--case", action="append", metavar="HxW/BOXES", help="(may be repeated)")
    parser.add_argument(
        "--largest", type=float, default=4.0, metavar="GIB", help="tensor of the dense way"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse_arguments(arguments)
    cases = {
        case: variants(*read_case(case), args.device, args.largest) for case in args.case or CASES
    }
    report(args, *run_cases(cases, args.repeats, args.warm_up, args.device))


if __name__ == "__main__":
    with report_errors():
        main(sys.argv[1:])
