#!/usr/bin/env python3
"""Check a data set in COCO's format before it is trained on: what is in it, and what is wrong.

    tools/check_dataset.py train.json images
    tools/check_dataset.py train.json images --config-file configs/vfnet_R50_1x.yaml \\
        --picture sizes.png

The exit status is 1 where a run would refuse the data, else 0; with --strict it is 1 for a
warning too, as runs with DATASETS.STRICT refuse most of these.
"""

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

# Before detectron2, whose import would warn.
from vfnet.processes import report_errors  # isort: skip

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from tabulate import tabulate

from vfnet import model_zoo
from vfnet.config import load_config
from vfnet.data import register_coco_format, repairs_of
from vfnet.data.checks.survey import Boxes, Survey, survey
from vfnet.errors import UserError
from vfnet.inspection.advice import recommend, shares_without_location
from vfnet.inspection.figures import write_figure
from vfnet.inspection.sizes_figure import draw_sizes
from vfnet.inspection.unlearned import LearnedBoxes, assign_boxes

# COCO's borders of small, medium and large: square root of the area, in pixels.
SIZES = {"small": (0, 32), "medium": (32, 96), "large": (96, np.inf)}
# The same in pixels of the resized picture, where assignment looks at them.
SIDES = (0, 8, 16, 32, 64, 128, 256, 512, np.inf)
# Share of boxes without a location from which on it is said.
UNLEARNED = 0.01


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("json", help="file in COCO's detection format")
    parser.add_argument("images", help="folder of the pictures")
    parser.add_argument(
        "--config-file",
        default=model_zoo.get_config_file("vfnet_R50_1x.yaml"),
        help="what it is to be trained with (default: vfnet_R50_1x.yaml)",
    )
    parser.add_argument("--decode", action="store_true", help="decode all pictures, not only heads")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the sizes")
    parser.add_argument("--strict", action="store_true", help="exit status 1 for warnings too")
    parser.add_argument(
        "--opts", nargs=argparse.REMAINDER, default=[], help="config overrides: KEY VALUE pairs"
    )
    return parser


def read_config(args: argparse.Namespace) -> CfgNode:
    """The config with the data set as the one to train on; registers it, called as its file."""
    cfg = load_config(args.config_file, args.opts)
    cfg.DATASETS.COCO_FORMAT = [[args.json, args.json, args.images]]
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (args.json,), ()
    register_coco_format(cfg)
    if not Path(args.images).is_dir():
        raise UserError(f"{args.images} is not a folder; expected that of the pictures")
    return cfg


def class_table(boxes: Boxes, names: Sequence[str]) -> str:
    """How many boxes, of which size, and pictures each class has."""
    sides = np.sqrt(boxes.sizes.prod(axis=1))
    rows = []
    for number, name in enumerate(names):
        own = boxes.classes == number
        sizes = [((sides >= low) & (sides < high) & own).sum() for low, high in SIZES.values()]
        rows.append([name, own.sum(), len(np.unique(boxes.pictures[own])), *sizes])
    headers = ["class", "objects", "pictures", *SIZES]
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=[0])


def assignment_table(assignments: Sequence[LearnedBoxes]) -> str:
    """The share of the objects of each size that no location learns, for each short edge."""
    rows = []
    for low, high in itertools.pairwise(SIDES):
        row = [f"{low} to {high} px" if np.isfinite(high) else f"from {low} px"]
        for item in assignments:
            own = (item.sides >= low) & (item.sides < high)
            row += [own.sum(), f"{100 * (~item.is_learned[own]).mean():.1f} %" if own.any() else ""]
        rows.append(row)
    headers = ["side, resized"]
    for item in assignments:
        headers += ["objects" + at(item), "without a location"]
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True)


def at(assignment: LearnedBoxes) -> str:
    return f" at {assignment.short_edge}" if assignment.short_edge else " as they are"


def describe_unlearned(assignments: Sequence[LearnedBoxes]) -> list[str]:
    """A line for each short edge at which many objects have no location."""
    return [
        f"{(~item.is_learned).sum()} of {len(item.is_learned)} objects ({100 * share:.1f} %) have "
        f"no location that learns them{at(item)} (INPUT.MIN_SIZE_TRAIN), half of them below "
        f"{np.median(item.sides[~item.is_learned]):.0f} px there: see the advice"
        for item in assignments
        for share in [(~item.is_learned).mean() if len(item.is_learned) else 0.0]
        if share > UNLEARNED
    ]


def advise(cfg: CfgNode, found: Survey) -> None:
    """Print what would give more objects a location, tried on them, and what to do."""
    shares = shares_without_location(cfg, found.records)
    rows = [
        [name, *(f"{100 * share:.1f} %" for _, share in of_sizes)]
        for name, of_sizes in shares.items()
    ]
    sizes = next(iter(shares.values()))
    headers = [
        "without a location",
        *(f"at {edge}" if edge else "as they are" for edge, _ in sizes),
    ]
    print(tabulate(rows, headers, tablefmt="pipe", disable_numparse=True), end="\n\n")
    print(f"advice: {recommend(shares)}", end="\n\n")


def print_survey(found: Survey, names: Sequence[str], assignments: Sequence[LearnedBoxes]) -> None:
    print(tabulate(found.counts.items(), tablefmt="plain"), end="\n\n")
    print(class_table(found.boxes, names), end="\n\n")
    if assignments:
        print(assignment_table(assignments), end="\n\n")


def main(args: argparse.Namespace) -> int:
    """Print what there is; return the exit status."""
    cfg = read_config(args)
    names = MetadataCatalog.get(args.json).thing_classes
    records = DatasetCatalog.get(args.json)
    found = survey(args.json, records, cfg.TEST.DETECTIONS_PER_IMAGE, args.decode)
    warnings = [*repairs_of([args.json]), *found.warnings]
    assignments: Sequence[LearnedBoxes] = ()
    if len(found.boxes.classes):
        try:
            assignments = assign_boxes(cfg, found.records)
        except UserError as error:
            warnings.append(f"boxes without a location are not counted: {error}")
    unlearned = describe_unlearned(assignments)
    warnings += unlearned
    empty = [name for number, name in enumerate(names) if number not in found.boxes.classes]
    if empty and len(found.boxes.classes):
        warnings.append(f"{len(empty)} classes have no object: {', '.join(empty[:10])}")
    print_survey(found, names, assignments)
    if unlearned:
        advise(cfg, found)
    if args.picture and len(found.boxes.classes):
        write_figure(args.picture, draw_sizes(found.boxes, names, len(records)))
        print(f"sizes: {args.picture}")
    for line in warnings:
        print(f"warning: {line}")
    for line in found.errors:
        print(f"error: {line}", file=sys.stderr)
    return int(bool(found.errors or (args.strict and warnings)))


if __name__ == "__main__":
    with report_errors():
        sys.exit(main(get_parser().parse_args()))
