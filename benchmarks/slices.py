#!/usr/bin/env python3
"""Small objects in large pictures: draw them, and say which share of them detections found.

python benchmarks/slices.py draw pictures/
python benchmarks/slices.py found pictures/val.json output/inference/coco_instances_results.json
"""

import argparse
import contextlib
import io
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tabulate import tabulate

from vfnet.data.datasets.shapes_layout import CLASSES, Layout, Shape
from vfnet.data.datasets.shapes_paint import paint
from vfnet.errors import UserError
from vfnet.processes import report_errors
from vfnet.utils.files import write_aside

WIDTH, HEIGHT = 4000, 3000
# Pictures of each set.
COUNTS = {"train": 6, "val": 2}
OBJECTS_A_PICTURE = 600
# The longer side of a box, in pixels: 12 in the mean.
SMALLEST, LARGEST = 9.0, 15.0
# Radians to either side, as the embedded shapes have it.
LARGEST_TILT = 0.4
# The angle of the first corner of a class without a tilt, as in the embedded shapes.
UPRIGHT = (0.0, math.pi / 4, -math.pi / 2)
JPEG_QUALITY = 95
# What counts as found: this intersection over union with a detection of the class, and its score.
FOUND_IOU, FOUND_SCORE = 0.5, 0.3


class Found(NamedTuple):
    """What detections found of a data set, in percent but for the count of them an object."""

    ap: float
    ap50: float
    share: float  # of the objects, by detections of at least FOUND_SCORE
    right: float  # of those detections


def draw_objects(rng: np.random.RandomState, width: int, height: int, count: int) -> Layout:
    """Draw `count` small shapes that do not touch each other."""
    shapes: list[Shape] = []
    centres = np.empty((0, 2))
    while len(shapes) < count:
        category = rng.randint(len(CLASSES))
        angle = UPRIGHT[category] + rng.uniform(-LARGEST_TILT, LARGEST_TILT)
        x0, y0, x1, y1 = Shape(category, 0.0, 0.0, 1.0, angle).box()
        radius = rng.uniform(SMALLEST, LARGEST) / max(x1 - x0, y1 - y0)
        x, y = rng.uniform((LARGEST, LARGEST), (width - LARGEST, height - LARGEST)).tolist()
        if np.all(np.hypot(centres[:, 0] - x, centres[:, 1] - y) > 1.5 * LARGEST):
            centres = np.vstack([centres, (x, y)])
            shapes.append(Shape(category, x, y, radius, angle))
    return Layout(width, height, shapes)


def draw(folder: Path) -> None:
    """Write train/, val/ and a json in COCO's format for each into `folder`."""
    for number, (split, count) in enumerate(COUNTS.items()):
        (folder / split).mkdir(parents=True, exist_ok=True)
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for index in range(count):
            seed = number, index
            layout = draw_objects(np.random.RandomState(seed), WIDTH, HEIGHT, OBJECTS_A_PICTURE)
            name = f"{index:03d}.jpg"
            picture = np.ascontiguousarray(paint(layout, (*seed, 1))[:, :, ::-1])
            quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
            cv2.imwrite(str(folder / split / name), picture, quality)
            images.append({"id": index, "file_name": name, "width": WIDTH, "height": HEIGHT})
            for shape in layout.shapes:
                annotations.append(
                    {"id": len(annotations) + 1, "image_id": index, **to_annotation(shape)}
                )
        categories = [{"id": n, "name": name} for n, name in enumerate(CLASSES, start=1)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        with write_aside(folder / f"{split}.json") as file:
            file.write(json.dumps(content).encode())


def to_annotation(shape: Shape) -> dict[str, Any]:
    """Describe a shape as COCO's format does."""
    x0, y0, x1, y1 = (float(edge) for edge in shape.box())
    width, height = x1 - x0, y1 - y0
    box = [x0, y0, width, height]
    return {"category_id": shape.category + 1, "bbox": box, "area": width * height, "iscrowd": 0}


def count_found(annotations: Path, detections: Path) -> Found:
    """Compare detections in COCO's result format with the objects that are there.

    All detections count, however many a picture has.
    """
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
            truth = COCO(str(annotations))
            found = truth.loadRes(str(detections))
    except (OSError, ValueError, AssertionError) as error:
        raise UserError(
            f"expected {annotations} in COCO's format, and {detections} in that of its results: "
            f"{error}"
        ) from None
    evaluation = _evaluate(truth, found)
    precision = evaluation.eval["precision"][..., 0, -1]  # (IoU, recall, class)
    sure = [d for d in found.loadAnns(found.getAnnIds()) if d["score"] >= FOUND_SCORE]
    matches = _matches(_evaluate(truth, truth.loadRes(sure))) if sure else 0
    ap, ap50 = precision.mean(), precision[0].mean()
    share, right = matches / len(truth.anns), matches / max(len(sure), 1)
    return Found(*(100 * float(value) for value in (ap, ap50, share, right)))


def _evaluate(truth: COCO, found: COCO) -> COCOeval:
    evaluation = COCOeval(truth, found, "bbox")
    evaluation.params.maxDets = [len(found.anns)]
    evaluation.params.areaRng = evaluation.params.areaRng[:1]
    evaluation.params.areaRngLbl = evaluation.params.areaRngLbl[:1]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def _matches(evaluation: COCOeval) -> int:
    """How many detections match an object at FOUND_IOU, the first of COCO's thresholds."""
    return sum(int((e["dtMatches"][0] > 0).sum()) for e in evaluation.evalImgs if e)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    drawing = commands.add_parser("draw", help="write the pictures, and a json for each set")
    drawing.add_argument("folder", type=Path)
    finding = commands.add_parser("found", help="print what detections found")
    finding.add_argument("annotations", type=Path, help="json in COCO's format")
    finding.add_argument("detections", type=Path, nargs="+", help="json in COCO's result format")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse_arguments(arguments)
    if args.command == "draw":
        draw(args.folder)
        return
    rows = [(path, *count_found(args.annotations, path)) for path in args.detections]
    found = f"found (%, score >= {FOUND_SCORE})"
    headers = ("detections", "AP", "AP50", found, "of these right (%)")
    print(tabulate(rows, headers, tablefmt="pipe", floatfmt=".1f"))


if __name__ == "__main__":
    with report_errors():
        main(sys.argv[1:])
