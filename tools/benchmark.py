#!/usr/bin/env python3
"""Time a detector, part by part, and side by side with Detectron2's own RetinaNet and FCOS.

tools/benchmark.py --config-file configs/vfnet_R50_1x.yaml --compare retinanet fcos
tools/benchmark.py --config-file configs/vfnet_R50_1x.yaml --compare configs/vfnet_R101_1x.yaml
tools/benchmark.py --config-file configs/vfnet_R50_1x.yaml --compile --cuda-graphs --no-train
tools/benchmark.py --config-file configs/demo/shapes_R18.yaml --device cpu --data
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

# What this tool shares with the scripts of benchmarks/ is no part of the installed package.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from lib.cases import size
from lib.device import check_device
from lib.loading import time_loader, with_rates
from lib.models import BASELINES, Subject, Workload
from lib.report import as_json, describe, table, write_report
from lib.runs import (
    Bench,
    memory_of_subjects,
    time_benches,
    with_images_a_second,
)
from lib.variants import CUDA_GRAPHS, check_variant
from vfnet.data import check_datasets, register_coco_format
from vfnet.errors import UserError
from vfnet.processes import report_errors
from vfnet.utils.precision import PRECISIONS

SCORES_NOTE = (
    "Random weights: batch norms fit the batch, and the scores are spread and shifted so that "
    "{candidates} (location, class) pairs of a picture pass the threshold."
)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--config-file", required=True, help="yaml of the detector")
    add("--weights", default="", help="its weights (default: random ones)")
    add("--compare", nargs="*", default=[], metavar="MODEL",
        help="retinanet, fcos (Detectron2's, R-50) or another yaml; random weights")  # fmt: skip
    add("--compile", nargs="?", const="inductor", metavar="BACKEND",
        help="its inference by torch.compile, too")  # fmt: skip
    add("--cuda-graphs", action="store_true",
        help="its inference with backbone and head as captured CUDA graphs, too")  # fmt: skip
    add("--half", choices=["bfloat16", "float16"], help="its inference in this precision, too")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--precision", choices=list(PRECISIONS), default="float32")
    add("--image-size", metavar="HxW", help="(default: the config's test size)")
    add("--image", default="", metavar="FILE", help="a picture to see (default: random ones)")
    add("--batch", type=int, default=1, help="pictures at a time")
    add("--boxes", type=int, default=30, help="ground truths of a picture")
    add("--candidates", type=int, default=1000, help="of a picture, with random weights")
    add("--repeats", type=int, default=10)
    add("--warm-up", type=int, default=3, help="turns that are not counted")
    add("--train", action=argparse.BooleanOptionalAction, default=True, help="time training too")
    add("--memory", action=argparse.BooleanOptionalAction, default=True,
        help="measure peak memory too, each in a process of its own")  # fmt: skip
    add("--data", action="store_true", help="time the training loader too")
    add("--workers", nargs="+", type=int, default=[0, 1, 2], help="of the loader")
    add("--batches", type=int, default=20, help="of the loader, in each repeat")
    add("--output", type=Path, metavar="FILE.json", help="write all samples there")
    add("--opts", nargs=argparse.REMAINDER, default=[], help="config overrides: KEY VALUE pairs")
    return parser.parse_args(arguments)


def read_workload(args: argparse.Namespace) -> Workload:
    """Check the arguments.

    Raises:
        UserError: a number too small; or as `check_device` and `check_variant`.
    """
    for name, lowest in {"batch": 1, "boxes": 0, "candidates": 1, "repeats": 1}.items():
        if getattr(args, name) < lowest:
            raise UserError(f"--{name} must be at least {lowest}, got {getattr(args, name)}")
    unknown = [name for name in args.compare if name not in BASELINES and not Path(name).is_file()]
    if unknown:
        raise UserError(
            f"--compare expects {', '.join(sorted(BASELINES))} or the path of a yaml, got "
            f"{', '.join(unknown)}"
        )
    check_device(args.device, args.precision)
    if args.half == args.precision or args.compile in PRECISIONS:
        raise UserError("--half must differ from --precision, and --compile takes no precision")
    for variant in variants(args):
        check_variant(variant, args.device)
    workload = Workload(
        config_file=args.config_file,
        overrides=tuple(args.opts),
        weights=args.weights,
        device=args.device,
        image_size=size(args.image_size) if args.image_size else (0, 0),
        image=args.image,
        batch=args.batch,
        boxes=args.boxes,
        candidates=args.candidates,
        precision=PRECISIONS[args.precision],
    )
    if args.image_size:
        return workload
    sizes = workload.config().INPUT
    return workload._replace(image_size=(sizes.MIN_SIZE_TEST, sizes.MAX_SIZE_TEST))


def variants(args: argparse.Namespace) -> list[str]:
    """The ways to run the VFNet beside the plain one; see `check_variant`."""
    graphs = CUDA_GRAPHS if args.cuda_graphs else ""
    return [variant for variant in (args.half, args.compile, graphs) if variant]


def benchmark_phase(args: argparse.Namespace, workload: Workload, phase: str) -> dict[str, Any]:
    """Time one phase, and measure its memory; print tables, return what goes into the json."""
    ways = variants(args) if phase == "inference" else []
    subjects = workload.subjects(ways, args.compare)
    content = time_subjects(args, workload, phase, subjects)
    if args.memory:
        peaks = memory_of_subjects(subjects, workload, phase)
        print(f"\n## {phase.capitalize()}, peak memory\n\n{table(peaks, 'peak')}", flush=True)
        content["bytes"] = as_json(peaks)
    return content


def time_subjects(
    args: argparse.Namespace, workload: Workload, phase: str, subjects: Mapping[str, Subject]
) -> dict[str, Any]:
    """Time one phase; print its table and what the variants find, return both for the json."""
    benches = {title: Bench(subject, workload) for title, subject in subjects.items()}
    samples = time_benches(benches, args.device, phase, args.repeats, args.warm_up)
    results = with_images_a_second(samples, phase, args.batch)
    print(f"\n## {phase.capitalize()}, time for a batch of {args.batch}\n")
    print(table(results, "median (quartiles)"), flush=True)
    content: dict[str, Any] = {"seconds": as_json(results, samples)}
    for title, bench in benches.items():
        if bench.agreement:
            print(f"\n{title}: {bench.agreement}", flush=True)
            content.setdefault("agreement", {})[title] = bench.agreement._asdict()
    return content


def benchmark_data(args: argparse.Namespace, workload: Workload) -> dict[str, Any]:
    """Time the training loader; print a table, return what goes into the json."""
    cfg = workload.config()
    register_coco_format(cfg)
    check_datasets(cfg.DATASETS.TRAIN)
    samples = time_loader(cfg, args.workers, args.batches, args.repeats)
    results = with_rates(samples)
    print(f"\n## Data\n\n{table(results, 'median (quartiles)')}", flush=True)
    return as_json(results, samples)


def settings(args: argparse.Namespace, workload: Workload) -> dict[str, Any]:
    """Everything that was chosen, for the json."""
    chosen = {name: value for name, value in vars(args).items() if name != "output"}
    return {**chosen, "image_size": workload.image_size}


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse_arguments(arguments)
    workload = read_workload(args)
    height, width = workload.image_size
    print(describe(args.device))
    print(f"\n{args.batch} pictures of {height}x{width}, {args.boxes} boxes each, {args.precision}")
    if args.compare or not args.weights:
        print(SCORES_NOTE.format(candidates=args.candidates))
    content: dict[str, Any] = {"settings": settings(args, workload)}
    if args.data:
        content["data"] = benchmark_data(args, workload)
    for phase in ("inference", "training") if args.train else ("inference",):
        content[phase] = benchmark_phase(args, workload, phase)
    if args.output:
        write_report(args.output, args.device, content)


if __name__ == "__main__":
    with report_errors():
        main(sys.argv[1:])
