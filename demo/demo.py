#!/usr/bin/env python3
"""Detect objects in pictures: write the pictures with boxes, and one json with all detections.

    python demo/demo.py --config-file output/shapes/config.yaml --input pictures/ \
        --output predictions --opts MODEL.WEIGHTS output/shapes/model_final.pth
"""

import argparse
import glob
import json
import os
from collections.abc import Sequence
from pathlib import Path

# Before detectron2, whose import would warn.
from vfnet.engine import report_errors  # isort: skip

from detectron2.structures import Instances

from vfnet.config import detector_node
from vfnet.data import read_picture
from vfnet.errors import UserError
from vfnet.predictor import build_predictor, class_names, load_prediction_config
from vfnet.utils.files import write_aside
from vfnet.visualization import draw_boxes, write_picture

PICTURE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
JSON_NAME = "predictions.json"


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config-file", required=True, help="yaml of the model")
    parser.add_argument(
        "--input", required=True, nargs="+", help="pictures, folders of pictures, or glob patterns"
    )
    parser.add_argument("--output", required=True, help="folder for the results")
    parser.add_argument(
        "--confidence-threshold", type=float, default=0.3, help="lowest score shown (default 0.3)"
    )
    parser.add_argument(
        "--opts", nargs=argparse.REMAINDER, default=[], help="config overrides: KEY VALUE pairs"
    )
    return parser.parse_args(arguments)


def find_pictures(inputs: Sequence[str]) -> list[Path]:
    """Expand files, folders and patterns to pictures, each once, in the order given.

    Raises:
        UserError: an input names nothing, or a folder holds no picture.
    """
    pictures: dict[Path, Path] = {}  # resolved path -> path as given
    for name in inputs:
        paths = [Path(name)]
        if not paths[0].exists():
            paths = [Path(match) for match in sorted(glob.glob(os.path.expanduser(name)))]
        if not paths:
            raise UserError(f"expected a picture, a folder or a pattern, found nothing at {name}")
        for path in paths:
            for picture in _pictures_of_folder(path) if path.is_dir() else [path]:
                pictures.setdefault(picture.resolve(), picture)
    return list(pictures.values())


def _pictures_of_folder(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    pictures = [path for path in files if path.suffix.lower() in PICTURE_SUFFIXES]
    if not pictures:
        raise UserError(
            f"expected pictures ({', '.join(PICTURE_SUFFIXES)}) in {folder}, found none"
        )
    if len(pictures) < len(files):
        print(f"{folder}: {len(pictures)} pictures, {len(files) - len(pictures)} other files")
    return pictures


def plan_outputs(pictures: Sequence[Path], folder: Path) -> list[Path]:
    """Return where each picture's result goes.

    Raises:
        UserError: two results would have one name, or a result would replace an input.
    """
    outputs: dict[Path, Path] = {}  # output -> picture
    sources = {picture.resolve() for picture in pictures}
    for picture in pictures:
        known = picture.suffix.lower() in PICTURE_SUFFIXES
        output = folder / (picture.name if known else picture.name + ".png")
        if output in outputs:
            raise UserError(
                f"{outputs[output]} and {picture} would both be written to {output}: "
                "run them apart, with different --output folders"
            )
        if output.resolve() in sources:
            raise UserError(f"{output} is an input and would be replaced: choose another --output")
        outputs[output] = picture
    return list(outputs)


def to_records(instances: Instances, names: Sequence[str]) -> list[dict]:
    """Turn detections into what the json holds of them; boxes are xyxy in pixels."""
    columns = (instances.pred_classes, instances.scores, instances.pred_boxes.tensor)
    return [
        {"class": names[class_id], "class_id": class_id, "score": score, "box": box}
        for class_id, score, box in zip(*(column.tolist() for column in columns))
    ]


def run(args: argparse.Namespace) -> None:
    """Check all input, then predict picture by picture, then write the json.

    Raises:
        UserError: an argument, the config, the weights or a picture is not usable.
    """
    threshold = args.confidence_threshold
    if not 0.0 <= threshold <= 1.0:
        raise UserError(f"expected a --confidence-threshold from 0 to 1, got {threshold}")
    folder = Path(args.output)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"expected a folder for --output, but {folder} is a file")
    pictures = find_pictures(args.input)
    outputs = plan_outputs(pictures, folder)
    for picture in pictures:  # before the first result is written
        read_picture(str(picture))

    cfg = load_prediction_config(args.config_file, args.opts)
    detector_node(cfg).SCORE_THRESH_TEST = threshold
    cfg.freeze()
    names = class_names(cfg)
    predictor = build_predictor(cfg)

    folder.mkdir(parents=True, exist_ok=True)
    records = []
    for picture, output in zip(pictures, outputs):
        image = read_picture(str(picture))
        instances = predictor(image)["instances"].to("cpu")
        # Soft-NMS lowers scores after the model has applied its threshold.
        instances = instances[instances.scores >= threshold]
        boxes = instances.pred_boxes.tensor.numpy()
        classes, scores = instances.pred_classes.tolist(), instances.scores.tolist()
        write_picture(output, draw_boxes(image[:, :, ::-1], boxes, classes, names, scores))
        height, width = image.shape[:2]
        detections = to_records(instances, names)
        records.append(
            {"file": str(picture), "width": width, "height": height, "detections": detections}
        )
        print(f"{picture}: {len(detections)} detections -> {output}")
    with write_aside(folder / JSON_NAME) as stream:
        stream.write(json.dumps(records, indent=1, ensure_ascii=False).encode("utf-8"))
    print(f"All detections: {folder / JSON_NAME}")


if __name__ == "__main__":
    with report_errors():
        run(parse_arguments())
