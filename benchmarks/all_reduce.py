#!/usr/bin/env python3
"""Seconds of gloo's all-reduce over loopback, beside the ring's formula of docs/scaling.md.

The link's bandwidth and latency are fitted to two processes; what the formula then says of more is
a prediction.

python benchmarks/all_reduce.py --processes 2 4 --megabytes 1 25 131
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from detectron2.utils import comm
from torch import distributed as dist

from vfnet.engine import launch, report_errors
from vfnet.errors import UserError
from vfnet.evaluation.benchmark_report import as_json, describe, write_report
from vfnet.evaluation.scaling import Link, all_reduce_seconds


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", nargs="+", type=int, default=[2, 4])
    parser.add_argument("--megabytes", nargs="+", type=float, default=[0.001, 1, 25, 131])
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples there")
    args = parser.parse_args(arguments)
    if args.processes[:1] != [2] or len(args.megabytes) < 2:
        raise UserError("expected --processes to begin with 2, and two sizes, to fit the link to")
    return args


def time_all_reduces(megabytes: Sequence[float], repeats: int, path: Path) -> None:
    """Write seconds by size, of the slowest process each time; on every process of a job."""
    samples: dict[str, list[float]] = {}
    for turn in range(-2, repeats):  # two are not counted
        for size in megabytes:
            values = torch.ones(max(1, round(size * 1e6 / 4)))
            comm.synchronize()
            start = time.perf_counter()
            dist.all_reduce(values)
            slowest = max(comm.all_gather(time.perf_counter() - start))
            if turn >= 0:
                samples.setdefault(f"{size:g} MB", []).append(slowest)
    if comm.is_main_process():
        path.write_text(json.dumps(samples))


def fit_link(sizes: Sequence[float], seconds: Sequence[float]) -> Link:
    """The link for which the formula gives these seconds of two processes: least relative squares.

    Args:
        sizes: bytes.
    """
    # For two processes, seconds = size / bandwidth + 2 latency.
    columns = np.stack([np.asarray(sizes), np.full(len(sizes), 2.0)], axis=1)
    weights = 1 / np.asarray(seconds)
    (slope, latency), *_ = np.linalg.lstsq(columns * weights[:, None], np.ones(len(sizes)))
    return Link(bandwidth=float(1 / slope), latency=float(latency))


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse_arguments(arguments)
    samples = {}
    with tempfile.TemporaryDirectory() as folder:
        for processes in args.processes:
            path = Path(folder) / f"{processes}.json"
            launch(
                time_all_reduces,
                (args.megabytes, args.repeats, path),
                device="cpu",
                num_gpus=processes,
            )
            samples[f"{processes} processes"] = json.loads(path.read_text())
    medians = {
        name: {row: float(np.median(seconds)) for row, seconds in rows.items()}
        for name, rows in samples.items()
    }
    sizes = [size * 1e6 for size in args.megabytes]
    link = fit_link(sizes, list(medians["2 processes"].values()))
    print(f"{describe('cpu')}\n")
    print(f"Fitted to 2 processes: {link.bandwidth / 1e9:.2f} GB/s, {1e6 * link.latency:.0f} us\n")
    print("| processes | MB | measured | formula |\n| --- | --- | --- | --- |")
    for processes, rows in zip(args.processes, medians.values()):
        for megabytes, seconds in zip(args.megabytes, rows.values()):
            formula = all_reduce_seconds(megabytes * 1e6, processes, link)
            cells = (
                processes,
                f"{megabytes:g}",
                f"{1e3 * seconds:.3g} ms",
                f"{1e3 * formula:.3g} ms",
            )
            print(f"| {' | '.join(map(str, cells))} |")
    if args.json:
        write_report(args.json, "cpu", {**as_json(medians, samples), "link": link._asdict()})


if __name__ == "__main__":
    with report_errors():
        main(sys.argv[1:])
