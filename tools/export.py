#!/usr/bin/env python3
"""Write a detector as a file for ONNX Runtime, TensorRT or OpenVINO, and prove it on pictures.

    python tools/export.py --config-file configs/vfnet_R50_1x.yaml --format onnx --dynamic \
        --output exported --check pictures/ --opts MODEL.WEIGHTS vfnet://vfnet_R50_1x

Beside the file lies a json that says what it takes and gives. docs/deploy.md shows its use.
"""

import argparse
import re
from pathlib import Path

# Before detectron2, whose import would warn.
from vfnet.processes import report_errors  # isort: skip

from vfnet.errors import UserError
from vfnet.export.description import read_description
from vfnet.export.quantize import FEWEST_PICTURES, check_calibration
from vfnet.export.score import LARGEST_LOSS, find_dataset, find_pictures
from vfnet.export.write import WRITERS, Exported, ExportOptions, export_detector
from vfnet.predictor import load_prediction_config

# Of a data set that is scored; comparing each picture takes both as long again.
PICTURES_OF_DATASET = 8


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config-file", required=True, help="yaml of the model")
    parser.add_argument("--format", required=True, choices=sorted(WRITERS))
    parser.add_argument("--output", required=True, type=Path, help="folder for the files")
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--size", metavar="HxW", help="height and width that the file takes, as in 800x1333"
    )
    size.add_argument(
        "--dynamic", action="store_true", help="the file takes pictures of any size (the default)"
    )
    parser.add_argument("--batch", type=int, default=1, help="pictures at a time (default 1)")
    parser.add_argument(
        "--raw", action="store_true", help="scores and boxes of all locations, nothing suppressed"
    )
    parser.add_argument(
        "--check",
        nargs="+",
        default=[],
        metavar="PICTURES_OR_DATASET",
        help="pictures, folders or patterns: compare the file with the detector in torch on them; "
        "or the name of a data set, or a json in COCO's format and the folder of its pictures: "
        "compare the AP of both",
    )
    parser.add_argument(
        "--int8",
        action="store_true",
        help="most of the file in int8; --format openvino alone, needs --calibrate",
    )
    parser.add_argument(
        "--calibrate",
        nargs="+",
        default=[],
        metavar="PICTURES_OR_DATASET",
        help=f"at least {FEWEST_PICTURES} pictures, such as those of training, to find the ranges "
        "of int8 on",
    )
    parser.add_argument(
        "--accept-loss",
        action="store_true",
        help=f"write a file that loses more than {LARGEST_LOSS} AP on the data set of --check",
    )
    parser.add_argument(
        "--opts", nargs=argparse.REMAINDER, default=[], help="config overrides: KEY VALUE pairs"
    )
    return parser.parse_args()


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Height and width of HxW, in pixels; None of None.

    Raises:
        UserError: it is not of that form.
    """
    if text is None:
        return None
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if not match:
        raise UserError(f"expected --size HEIGHTxWIDTH in pixels, as in 800x1333, got {text!r}")
    return int(match[1]), int(match[2])


def check_int8(args: argparse.Namespace) -> None:
    """Check the options of int8.

    Raises:
        UserError: they do not fit together.
    """
    if args.int8 and args.format != "openvino":
        raise UserError(f"--int8 expects --format openvino, got --format {args.format}")
    if args.int8 != bool(args.calibrate):
        raise UserError("--int8 and --calibrate PICTURES go together: give both or none")


def main() -> None:
    args = parse_arguments()
    if args.batch < 1:
        raise UserError(f"expected a --batch of at least 1, got {args.batch}")
    if args.output.exists() and not args.output.is_dir():
        raise UserError(f"expected a folder for --output, but {args.output} is a file")
    check_int8(args)
    options = ExportOptions(args.format, parse_size(args.size), args.batch, args.raw)
    cfg = load_prediction_config(args.config_file, args.opts)
    cfg.freeze()
    calibration = find_pictures(cfg, args.calibrate)
    if args.int8:
        check_calibration(calibration)
    dataset = find_dataset(cfg, args.check)
    if dataset and args.raw:
        raise UserError("--raw gives no detections to score: name pictures for --check")
    pictures = find_pictures(cfg, args.check)[: PICTURES_OF_DATASET if dataset else None]
    name = Path(args.config_file).stem
    name = cfg.MODEL.META_ARCHITECTURE.lower() if name == "config" else name
    print(f"Exporting {name} for {args.format}, which takes some minutes", flush=True)
    written = export_detector(
        cfg,
        name,
        args.output,
        options,
        pictures,
        calibration=calibration,
        dataset=dataset,
        accept_loss=args.accept_loss,
    )
    files = read_description(written.path).files
    size = sum(written.path.with_name(file).stat().st_size for file in files)
    print(f"{written.path}: {size / 1e6:.0f} MB, described by its json")
    report(written, len(pictures), args.int8)


def report(written: Exported, pictures: int, int8: bool) -> None:
    """Print what was found out about a file."""
    if written.agreement is not None:
        boxes, scores = written.agreement[:2]
        print(
            f"On {pictures} pictures it agrees{' before int8' * int8} with torch: boxes to "
            f"{boxes:.1g} px, scores to {scores:.1g}"
        )
    if written.scores is not None:
        name, torch, file = written.scores
        print(f"On {name} AP is {torch:.2f} in torch, {file:.2f} in the file")
    elif int8:
        print("What int8 loses was not measured: --check DATASET does that")


if __name__ == "__main__":
    with report_errors():
        main()
