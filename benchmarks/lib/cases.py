"""Variants of one computation, timed case by case: arguments, runs and one table."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from torch import Tensor

from vfnet.errors import UserError

from .memory import allocated_peak
from .report import Value, as_json, describe, table, write_report
from .timing import Run, Samples, Stopwatch, Watch, measure, stopwatch_of, summarise

# Case -> variant -> run. The first variant is what the others are compared with.
Cases = Mapping[str, Mapping[str, Run]]


def get_parser(description: str) -> argparse.ArgumentParser:
    """A parser with the arguments that all these scripts have."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--warm-up", type=int, default=2, help="turns that are not counted")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples there")
    return parser


def timed(function: Callable[[], object], part: str = "time") -> Run:
    """A run of one part."""

    def run(watch: Watch) -> None:
        function()
        watch.mark(part)

    return run


def forward_and_backward(function: Callable[[], Tensor], inputs: Sequence[Tensor]) -> Run:
    """A run of two parts: a function, and the gradients of the sum of what it returns."""

    def run(watch: Watch) -> None:
        out = function()
        watch.mark("forward")
        total = out.sum()
        watch.skip()
        total.backward()
        watch.mark("backward")
        watch.total("forward + backward")
        for tensor in inputs:
            tensor.grad = None

    return run


def run_cases(
    cases: Cases, repeats: int, warm_up: int, device: str
) -> tuple[dict[str, dict[str, Value]], Samples]:
    """Seconds of each part, and the peak of what tensors take beyond what was there before.

    Returns:
        results and samples, by variant and by row: case and part.
    """
    results: dict[str, dict[str, Value]] = {}
    all_samples: Samples = {}
    for case, runs in cases.items():
        samples = measure(runs, repeats, warm_up, stopwatch_of(device))
        for name, parts in summarise(samples).items():
            rows = results.setdefault(name, {})
            rows.update({f"{case}, {part}": summary for part, summary in parts.items()})
            rows[f"{case}, peak memory"] = allocated_peak(partial(runs[name], Stopwatch()), device)
            kept = all_samples.setdefault(name, {})
            kept.update({f"{case}, {part}": seconds for part, seconds in samples[name].items()})
    return results, all_samples


def report(
    args: argparse.Namespace,
    results: Mapping[str, Mapping[str, Value]],
    samples: Samples | None = None,
) -> None:
    """Print the machine and the table, and write the json file that was asked for."""
    print(describe(args.device))
    print()
    print(table(results, "median (quartiles)"))
    if args.json:
        write_report(args.json, args.device, as_json(results, samples))


def size(text: str) -> tuple[int, int]:
    """Read HxW, two positive numbers.

    Raises:
        UserError: the text is something else.
    """
    height, width = _numbers(text, 2, "a size as HxW, for example 800x1333")
    return height, width


def map_size(text: str) -> tuple[int, int, int]:
    """Read CxHxW, three positive numbers.

    Raises:
        UserError: the text is something else.
    """
    channels, height, width = _numbers(text, 3, "a map as CxHxW, for example 256x100x136")
    return channels, height, width


def _numbers(text: str, count: int, expected: str) -> list[int]:
    parts = text.lower().split("x")
    if len(parts) != count or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UserError(f"expected {expected}, got {text!r}")
    return [int(part) for part in parts]
