#!/usr/bin/env python3
"""Draw one contact sheet of a dataset: for each picture the ground truth beside the prediction.

    python tools/draw_predictions.py --config-file output/shapes/config.yaml \
        --weights output/shapes/model_final.pth --dataset shapes_val --output sheet.png
"""

import argparse
import json
import math
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

# Before detectron2, whose import would warn.
from vfnet.processes import report_errors  # isort: skip

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from matplotlib.figure import Figure

from vfnet.config import detector_node
from vfnet.data import check_datasets, check_images, read_picture, register_test_sets
from vfnet.errors import UserError
from vfnet.inspection.figures import DPI, write_figure
from vfnet.predictor import build_predictor, class_names, load_prediction_config
from vfnet.utils.files import is_special_file
from vfnet.visualization import draw_boxes

PAIRS_PER_ROW = 2
# Of one picture on the sheet; wide enough for the labels of a crowded picture.
CELL_INCHES = 4.8


class Drawable(NamedTuple):
    """Boxes of one picture: (N, 4) xyxy in pixels, N class indices, N scores or None."""

    boxes: np.ndarray
    classes: list[int]
    scores: list[float] | None


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config-file", required=True, help="yaml of the model")
    parser.add_argument("--weights", help="checkpoint, in place of the config's MODEL.WEIGHTS")
    parser.add_argument("--dataset", help="default: the config's first test dataset")
    parser.add_argument("--predictions", help="coco_instances_results.json: no model is run")
    parser.add_argument("--count", type=int, default=12, help="pictures (default 12)")
    parser.add_argument("--output", required=True, type=Path, help="picture to write")
    parser.add_argument(
        "--confidence-threshold", type=float, default=0.3, help="lowest score shown (default 0.3)"
    )
    parser.add_argument(
        "--opts", nargs=argparse.REMAINDER, default=[], help="config overrides: KEY VALUE pairs"
    )
    return parser.parse_args()


def choose_records(dataset: str, count: int) -> list[dict]:
    """Return `count` dataset dicts, spread evenly over the dataset; all, if it has fewer.

    Raises:
        UserError: there is no such dataset, files or chosen pictures of it are missing, or `count`
            is not positive.
    """
    if count < 1:
        raise UserError(f"expected a --count of at least 1, got {count}")
    check_datasets([dataset])
    records = DatasetCatalog.get(dataset)
    positions = np.linspace(0, len(records) - 1, min(count, len(records)))
    chosen = [records[round(position)] for position in positions]
    check_images(chosen)
    return chosen


def ground_truth(record: dict) -> Drawable:
    """Return the annotated boxes, crowds left out."""
    annotations = [a for a in record["annotations"] if not a.get("iscrowd", 0)]
    boxes = [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in annotations]
    return Drawable(np.array(boxes).reshape(-1, 4), [a["category_id"] for a in annotations], None)


def predictions_of_file(path: str, dataset: str, threshold: float) -> dict[object, Drawable]:
    """Read a results file of COCO: image id -> what it holds for the image above the threshold.

    Raises:
        UserError: the file is missing or no results file, or a category is not the dataset's.
    """
    metadata = MetadataCatalog.get(dataset)
    classes = range(len(metadata.thing_classes))
    to_class = metadata.get("thing_dataset_id_to_contiguous_id", dict(zip(classes, classes)))
    by_image = defaultdict(list)
    try:
        if is_special_file(path):
            raise OSError("no regular file")
        results = json.loads(Path(path).read_text(encoding="utf-8"))
        for result in results:
            row = (*result["bbox"], to_class[result["category_id"]], result["score"])
            if result["score"] >= threshold:
                by_image[result["image_id"]].append(row)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"expected COCO results of {dataset} in {path}: {type(error).__name__} {error}"
        ) from error
    tables = {image_id: np.array(rows) for image_id, rows in by_image.items()}
    return {
        image_id: Drawable(
            BoxMode.convert(table[:, :4], BoxMode.XYWH_ABS, BoxMode.XYXY_ABS),
            table[:, 4].astype(int).tolist(),
            table[:, 5].tolist(),
        )
        for image_id, table in tables.items()
    }


def predictions_of_model(
    cfg: CfgNode, records: Sequence[dict], threshold: float
) -> dict[object, Drawable]:
    """Run the model on each picture: image id -> detections above the threshold."""
    predictor = build_predictor(cfg)
    predictions = {}
    for record in records:
        instances = predictor(read_picture(record["file_name"], "BGR"))["instances"].to("cpu")
        instances = instances[instances.scores >= threshold]
        predictions[record["image_id"]] = Drawable(
            instances.pred_boxes.tensor.numpy(),
            instances.pred_classes.tolist(),
            instances.scores.tolist(),
        )
    return predictions


def contact_sheet(
    records: Sequence[dict],
    predictions: dict[object, Drawable],
    names: Sequence[str],
    threshold: float,
) -> Figure:
    """Lay out ground truth and prediction of each picture side by side, two pairs in a row.

    Args:
        records: dataset dicts.
        predictions: image id -> what was found in the image; an image without any may be missing.
        names: of the classes.
        threshold: the lowest score in `predictions`, for the titles.
    """
    nothing = Drawable(np.zeros((0, 4)), [], [])
    pairs = min(PAIRS_PER_ROW, len(records))
    rows = math.ceil(len(records) / pairs)
    height = CELL_INCHES * max(r["height"] / r["width"] for r in records) + 0.35
    figure = Figure(figsize=(2 * pairs * CELL_INCHES, rows * height), dpi=DPI, layout="constrained")
    cells = figure.subplots(rows, 2 * pairs, squeeze=False).reshape(-1, 2)
    for axes in cells.flat:
        axes.axis("off")
    for record, (left, right) in zip(records, cells):
        image = read_picture(record["file_name"], "RGB")
        scale = CELL_INCHES * DPI / image.shape[1]
        name = os.path.basename(record["file_name"])
        truth, found = ground_truth(record), predictions.get(record["image_id"], nothing)
        left.imshow(draw_boxes(image, *truth[:2], names, scale=scale))
        left.set_title(f"{name}: ground truth", fontsize=9)
        right.imshow(draw_boxes(image, *found[:2], names, found.scores, scale=scale))
        right.set_title(f"prediction, score from {threshold:g}", fontsize=9)
    return figure


def main() -> None:
    args = parse_arguments()
    overrides = list(args.opts)
    if args.weights:
        overrides += ["MODEL.WEIGHTS", args.weights]
    if args.dataset:  # the only one whose files have to be there
        overrides += ["DATASETS.TEST", str((args.dataset,))]
    cfg = load_prediction_config(args.config_file, overrides)
    if not cfg.DATASETS.TEST:
        raise UserError("DATASETS.TEST is empty: name a dataset with --dataset")
    dataset = cfg.DATASETS.TEST[0]
    threshold = args.confidence_threshold
    detector_node(cfg).SCORE_THRESH_TEST = threshold
    # A dumped config has its class names already; here the pictures are needed as well.
    register_test_sets(cfg)
    cfg.freeze()

    records = choose_records(dataset, args.count)
    if args.predictions:
        predictions = predictions_of_file(args.predictions, dataset, threshold)
    else:
        predictions = predictions_of_model(cfg, records, threshold)
    write_figure(args.output, contact_sheet(records, predictions, class_names(cfg), threshold))
    print(f"{len(records)} pictures of {dataset}: {args.output}")


if __name__ == "__main__":
    with report_errors():
        main()
