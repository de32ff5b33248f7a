#!/usr/bin/env python3
"""Detect objects in pictures and videos: draw the boxes, write all detections to files.

python demo/demo.py --weights vfnet://vfnet_R50_1x --input pictures/ --output predictions
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

# Before detectron2, whose import would warn.
from vfnet.processes import report_errors  # isort: skip

from detectron2.structures import Instances

from vfnet.data.file_names import is_video
from vfnet.data.sources import find_files
from vfnet.data.video import video_size
from vfnet.errors import UserError
from vfnet.export.exported import is_exported
from vfnet.prediction_run import (
    JOURNAL_NAME,
    RECORDS_NAME,
    SAVE_CHOICES,
    Outputs,
    predict_files,
)
from vfnet.predictor import Predictor
from vfnet.slicing import Slicing
from vfnet.utils.progress import progress
from vfnet.utils.text import printable
from vfnet.writers import read_coco_ids


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--weights",
        help=".pth, .safetensors, vfnet://NAME, or an exported .onnx or .xml; "
        "default: the config's MODEL.WEIGHTS",
    )
    parser.add_argument(
        "--config-file",
        help="yaml of the model; default: config.yaml beside the weights, that of vfnet://NAME",
    )
    parser.add_argument(
        "--input",
        required=True,
        nargs="+",
        help="pictures, videos, folders of pictures, or patterns",
    )
    parser.add_argument("--output", required=True, type=Path, help="folder for the results")
    parser.add_argument(
        "--save",
        nargs="*",
        choices=SAVE_CHOICES,
        default=["pictures"],
        help=f"what to write beside {RECORDS_NAME} (default: pictures)",
    )
    parser.add_argument(
        "--coco-json", help="data set in COCO's format, whose ids --save coco writes"
    )
    parser.add_argument(
        "--confidence-threshold", type=float, default=0.3, help="lowest score shown (default 0.3)"
    )
    parser.add_argument("--classes", nargs="+", help="names or ids of those to detect")
    parser.add_argument("--max-detections", type=int, help="the most of a picture, best first")
    parser.add_argument("--batch-size", type=int, default=1, help="pictures at once (default 1)")
    parser.add_argument("--slice", type=int, metavar="PIXELS", help="look at slices of this edge")
    parser.add_argument("--overlap", type=float, help="share that slices share (default 0.2)")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    parser.add_argument(
        "--opts", nargs=argparse.REMAINDER, default=[], help="config overrides: KEY VALUE pairs"
    )
    return parser.parse_args(arguments)


def build_predictor(args: argparse.Namespace) -> Predictor:
    if args.overlap is not None and args.slice is None:
        raise UserError("--overlap is that of slices: give their edge in pixels, as --slice 640")
    overlap = 0.2 if args.overlap is None else args.overlap
    return Predictor(
        args.weights,
        args.config_file,
        overrides=args.opts,
        confidence_threshold=args.confidence_threshold,
        classes=args.classes,
        max_detections=args.max_detections,
        batch_size=args.batch_size,
        slicing=None if args.slice is None else Slicing(args.slice, overlap),
    )


def count_pictures(files: Sequence[Path]) -> int:
    """Return the pictures and frames of all files; 0 where a video does not say it."""
    numbers = []
    for file in files:
        try:
            numbers.append(video_size(str(file))[1] if is_video(file) else 1)
        except UserError:  # it is named when its turn comes
            numbers.append(1)
    return sum(numbers) if all(numbers) else 0


def tell_full(args: argparse.Namespace, predictor: Predictor) -> None:
    """Say where there may be more objects than a picture's detections."""
    if args.max_detections or not predictor.times_full:
        return
    exported = args.weights is not None and is_exported(args.weights)
    how = "export it anew with a larger" if exported else "--max-detections, or"
    print(
        f"Of {predictor.times_full} pictures or slices there are {predictor.most_detections} "
        f"detections, the most that are given: for more, {how} TEST.DETECTIONS_PER_IMAGE"
    )


def run(args: argparse.Namespace) -> int:
    """Predict on all inputs; return the exit status, not 0 where the run was interrupted.

    Raises:
        UserError: an argument, the config or the weights are not usable; a picture was not, and
            all others are done.
    """
    if args.output.exists() and not args.output.is_dir():
        raise UserError(f"expected a folder for --output, but {args.output} is a file")
    if args.coco_json and "coco" not in args.save:
        raise UserError("--coco-json has the ids for --save coco: give that too")
    files = find_files(args.input)
    predictor = build_predictor(args)
    ids = read_coco_ids(args.coco_json, predictor.class_names) if args.coco_json else None

    journal = args.output / JOURNAL_NAME
    if journal.exists() and not args.resume:
        print(
            f"{printable(str(journal))}: of a run that did not do all, done anew "
            "(--resume would go on)"
        )
    elif args.resume and not journal.exists():
        print(f"{printable(str(journal))} is not there: from the beginning")
    with progress(count_pictures(files), "pictures") as shown:

        def report(name: str, instances: Instances) -> None:
            shown.step(f"{name}: {len(instances)} detections")

        def skip(name: str, error: UserError) -> None:
            shown.tell(f"left out: {error}")

        done = predict_files(
            predictor,
            files,
            Outputs(args.output, args.save, ids),
            resume=args.resume,
            skip=skip,
            report=report,
        )
    tell_full(args, predictor)
    print(f"{done.written} pictures, all detections: {printable(str(args.output / RECORDS_NAME))}")
    if done.status:
        print("Interrupted: the same command with --resume goes on", file=sys.stderr)
    elif done.skipped:
        raise UserError(f"{done.skipped} files could not be read and were left out, named above")
    return done.status


if __name__ == "__main__":
    with report_errors():
        sys.exit(run(parse_arguments()))
