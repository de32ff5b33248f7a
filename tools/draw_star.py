#!/usr/bin/env python3
"""Draw where a detector reads: the nine points of its best detections, first and refined box.

    python tools/draw_star.py --config-file output/own_data/config.yaml \
        --weights output/own_data/model_final.pth --input picture.jpg --output star.png

For VFNet, whose points are the star of the first box, and RepPoints.
"""

import argparse
from pathlib import Path

from vfnet.data import read_picture
from vfnet.errors import UserError
from vfnet.inspection.figures import write_figure
from vfnet.inspection.star import find_stars
from vfnet.inspection.star_figure import draw_stars
from vfnet.predictor import Predictor
from vfnet.processes import report_errors


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config-file", required=True, help="yaml of the model")
    parser.add_argument("--weights", help="checkpoint, in place of the config's MODEL.WEIGHTS")
    parser.add_argument("--input", required=True, help="picture")
    parser.add_argument("--output", required=True, type=Path, help="picture to write")
    parser.add_argument("--count", type=int, default=6, help="detections drawn (default 6)")
    parser.add_argument(
        "--confidence-threshold", type=float, default=0.3, help="lowest score drawn (default 0.3)"
    )
    parser.add_argument(
        "--opts", nargs=argparse.REMAINDER, default=[], help="config overrides: KEY VALUE pairs"
    )
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    if args.count < 1:
        raise UserError(f"expected a --count of at least 1, got {args.count}")
    image = read_picture(args.input)
    # The points are those of one view.
    overrides = [*args.opts, "TEST.AUG.ENABLED", False]
    predictor = Predictor(args.weights, args.config_file, overrides=overrides)
    stars = find_stars(predictor.model, predictor.model_input(image))
    stars = stars.best(args.count, args.confidence_threshold)
    if not len(stars.scores):
        raise UserError(
            f"nothing in {args.input} has a score of {args.confidence_threshold:g} or more: lower "
            "--confidence-threshold"
        )
    levels = predictor.model.head_in_features
    write_figure(args.output, draw_stars(image[:, :, ::-1], stars, predictor.class_names, levels))
    print(f"{len(stars.scores)} detections of {args.input}: {args.output}")


if __name__ == "__main__":
    with report_errors():
        main()
