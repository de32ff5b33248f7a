#!/usr/bin/env python3
"""Draw which locations learn which box of a training picture, a panel for each level.

    python tools/draw_assignment.py --config-file configs/own_data.yaml --output assignment.png \
        --opts DATASETS.COCO_FORMAT "[['my_train','train.json','images']]"

The picture goes through the config's own augmentations; --seed draws others. No weights are needed,
but for the second stage of RepPoints.
"""

import argparse
import os
from pathlib import Path

# Before detectron2, whose import would warn.
from vfnet.config import load_config  # isort: skip
from vfnet.processes import report_errors  # isort: skip

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.detection_utils import convert_image_to_rgb
from detectron2.modeling import build_model

from vfnet.data import build_mapper, check_datasets, check_images, register_test_sets
from vfnet.data.checks.boxes import clean_boxes
from vfnet.data.stream import seeded_generators
from vfnet.errors import UserError
from vfnet.inspection.assignment import check_assignment_model, find_assignment
from vfnet.inspection.assignment_figure import draw_assignment
from vfnet.inspection.figures import write_figure
from vfnet.predictor import build_predictor, load_prediction_config


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config-file", required=True, help="yaml of the model")
    parser.add_argument("--weights", help="checkpoint of the whole detector (default: none)")
    parser.add_argument("--dataset", help="default: the config's first training dataset")
    parser.add_argument("--image", help="file name or id of a picture in it (default: the first)")
    parser.add_argument("--output", required=True, type=Path, help="picture to write")
    parser.add_argument("--seed", type=int, default=0, help="of the augmentations (default 0)")
    parser.add_argument(
        "--opts", nargs=argparse.REMAINDER, default=[], help="config overrides: KEY VALUE pairs"
    )
    return parser.parse_args()


def choose_record(dataset: str, image: str | None) -> dict:
    """Return the dataset dict of a picture, by its file's name or its id; None: the first.

    Raises:
        UserError: the data set or the picture is not there, or has no annotations.
    """
    check_datasets([dataset])
    records = DatasetCatalog.get(dataset)
    for record in records:
        file_name = str(record["file_name"])
        names = (file_name, os.path.basename(file_name), str(record.get("image_id")))
        if image is None or image in names:
            break
    else:
        some = ", ".join(os.path.basename(record["file_name"]) for record in records[:3])
        raise UserError(
            f"{dataset} has no picture {image or 'at all'}: expected a file name or an id of one "
            f"of its {len(records)} pictures" + (f", such as {some}" if some else "")
        )
    check_images([record])
    if "annotations" not in record:
        raise UserError(f"{record['file_name']} has no annotations, so there is nothing to learn")
    return clean_boxes([record])[0]


def main() -> None:
    args = parse_arguments()
    if args.seed < 0:
        raise UserError(f"expected a --seed of 0 or more, got {args.seed}")
    trained = load_config(args.config_file, args.opts).DATASETS.TRAIN
    if not (args.dataset or trained):
        raise UserError("DATASETS.TRAIN is empty: name a dataset with --dataset")
    dataset = args.dataset or trained[0]
    only = str((dataset,))  # whose files have to be there
    overrides = [*args.opts, "DATASETS.TRAIN", only, "DATASETS.TEST", only]
    cfg = load_prediction_config(args.config_file, overrides)
    register_test_sets(cfg)
    cfg.TEST.AUG.ENABLED = False
    cfg.MODEL.WEIGHTS = args.weights or ""

    model = build_predictor(cfg).model if args.weights else build_model(cfg).eval()
    check_assignment_model(model)
    record = choose_record(dataset, args.image)
    with seeded_generators((args.seed,)):
        item = build_mapper(cfg, is_train=True)(record)
    assignment = find_assignment(model, item, trained=bool(args.weights))
    image = convert_image_to_rgb(item["image"].permute(1, 2, 0), cfg.INPUT.FORMAT)
    names = MetadataCatalog.get(dataset).thing_classes
    write_figure(args.output, draw_assignment(image, assignment, names))
    unlearnt = int((assignment.learners() == 0).sum())
    print(
        f"{len(assignment.gt_boxes)} boxes of {record['file_name']}, {unlearnt} of which nothing "
        f"learns: {args.output}"
    )


if __name__ == "__main__":
    with report_errors():
        main()
