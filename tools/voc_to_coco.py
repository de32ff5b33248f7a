#!/usr/bin/env python3
"""Convert a Pascal VOC folder to json files in COCO's detection format.

    tools/voc_to_coco.py --annotations VOC/Annotations --images VOC/JPEGImages --output all.json
    tools/voc_to_coco.py --annotations VOC/Annotations --images VOC/JPEGImages --split 0.8 \\
        --output FOLDER        # writes FOLDER/train.json and FOLDER/val.json
"""

import argparse
import logging
from pathlib import Path

from vfnet.data.datasets.to_coco import DIFFICULT_CHOICES, check_output, to_coco, write_coco
from vfnet.data.datasets.voc import read_voc
from vfnet.errors import UserError
from vfnet.processes import report_errors


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="A box is x=xmin, y=ymin, w=xmax-xmin, h=ymax-ymin: coordinates stay as the xml has "
        "them. VOC counts pixels from 1; that is kept, not shifted to 0.",
    )
    parser.add_argument("--annotations", type=Path, required=True, help="folder of the xml files")
    parser.add_argument("--images", type=Path, required=True, help="folder of the pictures")
    parser.add_argument(
        "--output", type=Path, required=True, help="json file; with --split, a folder"
    )
    parser.add_argument(
        "--split",
        type=float,
        metavar="SHARE",
        help="share of the images that goes to train.json, the rest to val.json; which ones "
        "follows from the sha1 of their names",
    )
    parser.add_argument(
        "--classes",
        type=lambda text: [name.strip() for name in text.split(",")],
        metavar="A,B,C",
        help="class names in the order of their ids (default: those found, sorted)",
    )
    parser.add_argument(
        "--difficult",
        choices=DIFFICULT_CHOICES,
        default="keep",
        help="objects marked difficult: keep as normal boxes (default), make crowds, or drop",
    )
    return parser


def main(args: argparse.Namespace) -> None:
    for folder in (args.annotations, args.images):
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder.")
    check_output(args.output, args.split)
    content = to_coco(read_voc(args.annotations, args.images), args.classes, args.difficult)
    write_coco(content, args.output, args.split)


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s")
    with report_errors():
        main(get_parser().parse_args())
