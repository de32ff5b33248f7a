#!/usr/bin/env python3
"""Compute what 8, 64 and 512 workers give, from one worker's measured step.

tools/benchmark.py --config-file configs/vfnet_R50_1x.yaml --batch 2 --output step.json
tools/scaling.py --config-file configs/vfnet_R50_1x.yaml --measured step.json --gigabits 100
tools/scaling.py --config-file configs/vfnet_R50_1x.yaml --step-seconds 0.1 0.2 0.5 1 --gigabits 100
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.modeling import build_model

from vfnet.engine import load_config, report_errors
from vfnet.errors import UserError
from vfnet.evaluation.scaling import (
    Link,
    Recipe,
    Step,
    ddp_peak_bytes,
    exposed_seconds,
    gradient_seconds,
    loaders_needed,
    scale,
    step_of_report,
)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--config-file", required=True, help="yaml of the VFNet")
    step = parser.add_mutually_exclusive_group(required=True)
    step.add_argument("--measured", type=Path, metavar="FILE.json",
        help="what tools/benchmark.py --output has written")  # fmt: skip
    step.add_argument("--step-seconds", nargs="+", type=float, metavar="S",
        help="steps to suppose: prints the share of communication alone")  # fmt: skip
    add("--workers", nargs="+", type=int, default=[8, 64, 512])
    add("--gigabits", type=float, required=True, help="a second, of the link of each worker")
    add("--latency-us", type=float, default=10.0, help="of a message, in microseconds")
    add("--loader-rate", type=float, metavar="R",
        help="images a second of one loader worker: see benchmarks/loader.py")  # fmt: skip
    add("--opts", nargs=argparse.REMAINDER, default=[], help="config overrides: KEY VALUE pairs")
    args = parser.parse_args(arguments)
    amounts = [args.gigabits, *args.workers, *(args.step_seconds or [])]
    amounts += [] if args.loader_rate is None else [args.loader_rate]
    if min(amounts) <= 0 or args.latency_us < 0:
        raise UserError("workers, times, rates and the link's speed must be greater than 0")
    return args


def gradient_bytes(cfg: CfgNode) -> int:
    """Bytes of the gradient of the parameters that train, in float32."""
    cfg = cfg.clone()
    cfg.MODEL.DEVICE = "cpu"
    return 4 * sum(p.numel() for p in build_model(cfg).parameters() if p.requires_grad)


def rows_of_measured(
    step: Step, recipe: Recipe, size: int, link: Link, args: argparse.Namespace
) -> list[list[str]]:
    """A table with a line for each number of workers."""
    header = ["workers", "batch", "learning rate", "iterations", "all-reduce", "share of the step"]
    header += ["behind backward", "images/s", "of ideal"]
    rows = [header + (["loaders each"] if args.loader_rate else [])]
    for workers in args.workers:
        job = scale(step, workers, recipe, size, link)
        cells = [f"{job.workers}", f"{job.batch}", f"{job.learning_rate:g}", f"{job.iterations}"]
        cells += [f"{1000 * job.communication:.3g} ms", f"{job.share_alone:.2%}"]
        cells += [f"{job.share_overlapped:.2%}", f"{job.images_a_second:.4g}"]
        cells.append(f"{job.efficiency:.1%}")
        if args.loader_rate:
            rate = job.images_a_second / workers
            cells.append(f"{loaders_needed(rate, args.loader_rate)}")
        rows.append(cells)
    return rows


def rows_of_supposed(size: int, link: Link, args: argparse.Namespace) -> list[list[str]]:
    """A table with a line for each supposed step; hidden, only the last bucket shows."""
    rows = [["a step", *(f"{workers}: alone / best hidden" for workers in args.workers)]]
    for seconds in args.step_seconds:
        cells = [f"{seconds:g} s"]
        for workers in args.workers:
            alone = gradient_seconds(size, workers, link)
            hidden = exposed_seconds(size, workers, link, backward=float("inf"))
            cells.append(f"{alone / (seconds + alone):.1%} / {hidden / (seconds + hidden):.1%}")
        rows.append(cells)
    return rows


def as_markdown(rows: list[list[str]]) -> str:
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def read_report(path: Path, config_file: str) -> Step:
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        step = step_of_report(report)
        measured = report["settings"]["config_file"]
        if Path(measured).name != Path(config_file).name:
            raise UserError(f"--measured {path} is of {measured}, not of {config_file}")
        return step
    except (OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"--measured {path} cannot be read as json: {error}") from None


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse_arguments(arguments)
    cfg = load_config(args.config_file, args.opts)
    step = read_report(args.measured, args.config_file) if args.measured else None
    solver = cfg.SOLVER
    recipe = Recipe(solver.IMS_PER_BATCH, solver.BASE_LR, solver.MAX_ITER)
    size = gradient_bytes(cfg)
    link = Link(args.gigabits * 1e9 / 8, args.latency_us / 1e6)
    print(
        f"Computed: gradient {size / 1e6:.1f} MB, ring all-reduce over {args.gigabits:g} Gb/s a "
        f"worker, {args.latency_us:g} us a message.\n"
    )
    if step is None:
        print(as_markdown(rows_of_supposed(size, link, args)))
        return
    spent = f"{step.seconds:.4g} s a step, {step.backward:.4g} s of it backward"
    print(f"Measured: {spent}, with {step.images} images.\n")
    print(as_markdown(rows_of_measured(step, recipe, size, link, args)))
    peak = ddp_peak_bytes(step, size)
    if peak is not None:
        print(f"\nMemory of each worker: {peak / 2**30:.2f} GiB, DDP's buckets included.")


if __name__ == "__main__":
    with report_errors():
        main(sys.argv[1:])
