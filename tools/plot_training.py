#!/usr/bin/env python3
"""Plot losses and AP over iterations from the metrics.json that a training run wrote.

python tools/plot_training.py output/shapes/metrics.json output/shapes/training.png
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vfnet.engine import report_errors
from vfnet.errors import UserError
from vfnet.visualization import write_picture

APS = ("bbox/AP", "bbox/AP50", "bbox/AP75")
SIZE_INCHES, DPI = (12.0, 4.5), 100


def read_metrics(path: Path) -> list[dict]:
    """Return one dict per iteration, in order; of an iteration written twice, the later values.

    Raises:
        UserError: the file is missing or holds no metrics.
    """
    if not path.is_file():
        raise UserError(f"expected Detectron2's metrics.json, found no file at {path}")
    by_iteration: dict[int, dict] = {}
    unreadable = 0
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            values = json.loads(line)
            by_iteration.setdefault(values["iteration"], {}).update(values)
        except (json.JSONDecodeError, KeyError, TypeError):
            unreadable += 1  # a run that was killed leaves half a line
    if unreadable:
        print(f"{path}: {unreadable} lines are not metrics and are left out", file=sys.stderr)
    if not by_iteration:
        raise UserError(f"expected Detectron2's metrics.json, found no metrics in {path}")
    return [by_iteration[iteration] for iteration in sorted(by_iteration)]


def series(metrics: Sequence[dict], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the iterations at which `name` was written, counted from 1, and its values."""
    rows = [(row["iteration"] + 1, row[name]) for row in metrics if name in row]
    table = np.array(rows, dtype=np.float64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def loss_names(metrics: Sequence[dict]) -> list[str]:
    """Return the names of the losses that were written, whichever detector's: their sum first."""
    names = dict.fromkeys(name for row in metrics for name in row)
    return ["total_loss", *(name for name in names if name.startswith("loss_"))]


def smooth(values: np.ndarray, window: int = 5) -> np.ndarray:
    """Average each value with its neighbours, fewer of them at both ends."""
    kernel = np.ones(window)
    # The full convolution, cut by hand: mode "same" is as long as the kernel where that is longer.
    middle = slice(window // 2, window // 2 + len(values))
    count = np.convolve(np.ones(len(values)), kernel)[middle]
    return np.convolve(values, kernel)[middle] / count


def plot(metrics: Sequence[dict]) -> Figure:
    """Draw losses at the left and AP at the right."""
    figure = Figure(figsize=SIZE_INCHES, dpi=DPI, layout="constrained")
    losses, aps = figure.subplots(1, 2)
    for index, name in enumerate(loss_names(metrics)):
        iterations, values = series(metrics, name)
        if len(values):
            losses.plot(iterations, values, color=f"C{index}", alpha=0.25, linewidth=1)
            losses.plot(iterations, smooth(values), color=f"C{index}", label=name)
    for index, name in enumerate(APS):
        iterations, values = series(metrics, name)
        if len(values):
            label = f"{name.split('/')[1]}: {values[-1]:.1f} at the end"
            aps.plot(iterations, values, "o-", color=f"C{index}", label=label)
    _finish(losses, "Training losses (pale: as written, strong: smoothed)", "loss")
    _finish(aps, "AP on the validation images", "AP in %")
    aps.set_ylim(0, 100)
    return figure


def _finish(axes: Axes, title: str, label: str) -> None:
    axes.set(title=title, xlabel="iteration", ylabel=label)
    axes.set_ylim(bottom=0)
    axes.margins(x=0.08)
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend()
    else:
        axes.text(0.5, 0.5, "none written", transform=axes.transAxes, ha="center")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("metrics", type=Path, help="metrics.json of a run")
    parser.add_argument("output", type=Path, help="picture to write")
    args = parser.parse_args()
    canvas = FigureCanvasAgg(plot(read_metrics(args.metrics)))
    canvas.draw()
    write_picture(args.output, np.asarray(canvas.buffer_rgba())[:, :, :3])


if __name__ == "__main__":
    with report_errors():
        main()
