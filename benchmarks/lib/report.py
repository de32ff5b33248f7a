"""Measurements as a markdown table and as a json file, with the machine they come from."""

import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import detectron2
import torch
import torchvision

from vfnet import __version__
from vfnet.utils.files import write_aside

from .timing import Samples, Summary

# Seconds with their spread, bytes, or a plain number.
Value = Summary | int | float

# Variant -> row -> what was measured.
Results = Mapping[str, Mapping[str, Value]]


def ratios(results: Results) -> dict[str, dict[str, float]]:
    """The first variant's seconds and bytes divided by each other variant's, where both have them.

    Plain numbers have no ratio.
    """
    first, *others = (_amounts(rows) for rows in results.values())
    return {
        name: {row: first[row] / amount for row, amount in other.items() if row in first and amount}
        for name, other in zip(list(results)[1:], others)
    }


def table(results: Results, corner: str) -> str:
    """A markdown table: a line for each row, a column for each variant and for each ratio."""
    first, *others = results
    compared = ratios(results)
    header = [corner, *results, *(f"{first} / {other}" for other in others)]
    lines = [header, ["---"] * len(header)]
    for row in dict.fromkeys(row for values in results.values() for row in values):
        cells = [_text(values.get(row)) for values in results.values()]
        shares = [compared[other].get(row) for other in others]
        lines.append([row, *cells, *("-" if x is None else f"{x:.2f}" for x in shares)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _amounts(rows: Mapping[str, Value]) -> dict[str, float]:
    return {
        row: value.median if isinstance(value, Summary) else value
        for row, value in rows.items()
        if isinstance(value, (Summary, int))
    }


def _text(value: Value | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, Summary):
        median, lower, upper = (_digits(1000 * seconds) for seconds in value)
        return f"{median} ms ({lower}-{upper})"
    if isinstance(value, int):
        return f"{_digits(value / 2**20)} MiB"
    return f"{value:.3g}"


def _digits(value: float) -> str:
    return f"{value:.1f}" if value >= 10 else f"{value:.3f}"


def as_json(results: Results, samples: Samples | None = None) -> dict[str, Any]:
    """Results in seconds and bytes, their ratios, and every sample behind them."""
    values = {
        name: {row: v._asdict() if isinstance(v, Summary) else v for row, v in rows.items()}
        for name, rows in results.items()
    }
    return {"results": values, "ratios": ratios(results), "samples": samples or {}}


def machine(device: str) -> dict[str, Any]:
    """What a measurement depends on beside the code."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(device) if device.startswith("cuda") else None,
        "TF32 for": _tf32() if device.startswith("cuda") else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "detectron2": detectron2.__version__,
        "vfnet": __version__,
    }


def describe(device: str) -> str:
    """The machine in one line."""
    return ", ".join(f"{name} {value}" for name, value in machine(device).items() if value)


def _tf32() -> str:
    """What a GPU computes with 10 bits of mantissa where float32 is asked for."""
    switches = {
        "convolutions": torch.backends.cudnn.allow_tf32,
        "products": torch.backends.cuda.matmul.allow_tf32,
    }
    return " and ".join(name for name, on in switches.items() if on) or "nothing"


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def write_report(path: Path, device: str, content: Mapping[str, Any]) -> None:
    """Write content with the machine and the command as json."""
    command = shlex.join(["python", *sys.argv])
    report = {"machine": machine(device), "command": command, **content}
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_aside(path) as stream:
        stream.write(json.dumps(report, indent=1).encode())
