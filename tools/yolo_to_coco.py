#!/usr/bin/env python3
"""Convert a YOLO data set to json files in COCO's detection format.

tools/yolo_to_coco.py --data data.yaml --output FOLDER     # FOLDER/train.json, val.json, …
tools/yolo_to_coco.py --images images --classes cat,dog --output all.json
tools/yolo_to_coco.py --images images --classes cat,dog --split 0.8 --output FOLDER
"""

import argparse
import logging
from pathlib import Path

from vfnet.data.datasets.to_coco import check_output, to_coco, write_coco
from vfnet.data.datasets.yolo import label_folder, read_data_yaml, read_yolo
from vfnet.errors import UserError
from vfnet.processes import report_errors


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="The text files of a folder images lie in the folder labels beside it.",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, help="data.yaml: a json file for each of its splits")
    source.add_argument("--images", type=Path, help="folder of the pictures")
    parser.add_argument("--labels", type=Path, help="folder of the text files, where elsewhere")
    parser.add_argument(
        "--classes",
        type=lambda text: [name.strip() for name in text.split(",")],
        metavar="A,B,C",
        help="with --images: class names in the order of their numbers",
    )
    parser.add_argument(
        "--split",
        type=float,
        metavar="SHARE",
        help="with --images: share that goes to train.json, the rest to val.json; which ones "
        "follows from the sha1 of their names",
    )
    parser.add_argument(
        "--output", type=Path, required=True, help="folder; with --images alone a json file"
    )
    return parser


def main(args: argparse.Namespace) -> None:
    if args.images:
        convert_folder(args)
    elif args.labels or args.classes or args.split:
        raise UserError("--labels, --classes and --split go with --images; data.yaml has its own")
    else:
        convert_data(args.data, args.output)


def convert_folder(args: argparse.Namespace) -> None:
    check_output(args.output, args.split)
    if not args.classes:
        raise UserError("--images needs --classes: the names in the order of their numbers")
    if not args.images.is_dir():
        raise UserError(f"{args.images} is not a folder")
    read = read_yolo(args.images, args.labels or label_folder(args.images), args.classes)
    write_coco(to_coco(read, args.classes), args.output, args.split)


def convert_data(file: Path, output: Path) -> None:
    classes, splits = read_data_yaml(file)
    if not splits:
        raise UserError(f'{file} names no folder: expected "train", "val" or "test"')
    contents = {
        split: to_coco(read_yolo(images, label_folder(images), classes), classes)
        for split, images in splits.items()
    }
    for split, content in contents.items():
        write_coco(content, output / f"{split}.json")
        print(f"    its pictures: {splits[split]}")


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s")
    with report_errors():
        main(get_parser().parse_args())
