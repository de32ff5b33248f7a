"""A picture of a run: losses, rate, AP of all and of each class, precision and recall."""

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation

from ..evaluation.precision_recall import ClassCurve
from .figures import DPI, plain
from .run import ap_names, loss_names, series, smooth, validation_names

PANEL_INCHES = (5.2, 4.0)
MOST_CLASSES = 8  # that can be told apart
FEW_SCORES = 20
# All in inches: what legends add to the height of a row of panels.
_LEGEND_HEIGHT = 0.6
# From the axis to the legend: the numbers and the label of the axis are between.
_LEGEND_BELOW = 0.5
# At most, with two columns.
_LEGEND_WIDTH = 4.4
Metrics = Sequence[dict[str, float]]


def draw_run(metrics: Metrics, curves: Sequence[ClassCurve], dataset: str = "") -> Figure:
    """Draw what `read_metrics` and `curves_of_run` give; without curves, what was logged alone."""
    panels = panels_of_run(metrics, curves, dataset)
    rows = len(panels) // 3
    width, height = PANEL_INCHES
    figure = Figure(
        figsize=(3 * width, rows * (height + _LEGEND_HEIGHT)), dpi=DPI, layout="constrained"
    )
    for draw, axes in zip(panels, figure.subplots(rows, 3).flat):
        draw(axes)
    return figure


def panels_of_run(
    metrics: Metrics, curves: Sequence[ClassCurve], dataset: str = ""
) -> list[Callable[[Axes], None]]:
    """What draws each panel of `draw_run` into its axes: three, or six where classes are known."""
    names = ap_names(metrics, of_classes=False)
    panels: list[Callable[[Axes], None]] = [
        lambda axes: _draw_losses(axes, metrics),
        lambda axes: _draw_rate(axes, metrics),
        lambda axes: _draw_aps(axes, metrics, names, "AP on the test pictures"),
    ]
    if not curves and not ap_names(metrics, of_classes=True):
        return panels
    counted = [curve for curve in curves if curve.num_gt]
    chosen = lowest(counted, [curve.ap for curve in counted])
    note = _how_many(chosen, counted)
    place = f"on {plain(dataset)}, " if dataset else ""
    both = f"Precision and recall {place}IoU 0.5{note}"
    each = f"Precision (solid) and recall (dashed) {place}IoU 0.5{note}"
    return [
        *panels,
        lambda axes: _draw_class_aps(axes, metrics, [curve.name for curve in chosen]),
        lambda axes: _draw_precision_recall(axes, chosen, both),
        lambda axes: _draw_over_score(axes, chosen, each),
    ]


def lowest(items: Sequence, values: Sequence[float]) -> list:
    """Of more than `MOST_CLASSES` items those with the lowest values; in their order."""
    order = np.argsort(values, kind="stable")[:MOST_CLASSES]
    return [items[index] for index in sorted(order)]


def _how_many(shown: Sequence, all_of_them: Sequence) -> str:
    some = len(shown) < len(all_of_them)
    return f"\nthe {len(shown)} lowest of {len(all_of_them)} classes" if some else ""


def _draw_losses(axes: Axes, metrics: Metrics) -> None:
    for index, name in enumerate(loss_names(metrics)):
        iterations, values = series(metrics, name)
        axes.plot(iterations, values, color=f"C{index}", alpha=0.25, linewidth=1)
        last = smooth(values)[-1]
        axes.plot(iterations, smooth(values), color=f"C{index}", label=f"{name}: {last:.3g}")
        for written in validation_names(metrics, name):
            iterations, values = series(metrics, written)
            label = f"{plain(written)}: {values[-1]:.3g}"
            axes.plot(iterations, values, ".--", color=f"C{index}", label=label)
    _finish(axes, "Losses (pale: as written; dashed: on test pictures)", "iteration", "loss")
    axes.set_ylim(bottom=0)


def _draw_rate(axes: Axes, metrics: Metrics) -> None:
    iterations, values = series(metrics, "lr")
    if len(values):
        axes.plot(iterations, values, color="C0", label=f"{values[-1]:.3g} at the end")
        if values.min() > 0 and values.max() > 20 * values.min():
            axes.set_yscale("log")
        else:
            # Rates such as 0.00052 take more room than the page's panels have beside the axis.
            axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 4), useOffset=False)
    _finish(axes, "Learning rate", "iteration", "rate")


def _draw_aps(axes: Axes, metrics: Metrics, names: Iterable[str], title: str) -> None:
    for index, name in enumerate(names):
        iterations, values = series(metrics, name)
        label = plain(name.replace("bbox/", ""))
        label += f": {values[-1]:.1f} at the end"
        axes.plot(iterations, values, ".-", color=f"C{index}", label=label)
    _finish(axes, title, "iteration", "AP in %")
    axes.set_ylim(0, 100)


def _draw_class_aps(axes: Axes, metrics: Metrics, classes: Sequence[str]) -> None:
    """The APs of these classes, in their order, so that colours agree; of none, the lowest."""
    all_names = ap_names(metrics, of_classes=True)
    names = [name for c in classes for name in all_names if name.endswith(f"bbox/AP-{c}")]
    names = names or lowest(all_names, [series(metrics, name)[1][-1] for name in all_names])
    _draw_aps(axes, metrics, names, "AP of classes" + _how_many(names, all_names))


def _draw_precision_recall(axes: Axes, curves: Sequence[ClassCurve], title: str) -> None:
    for index, curve in enumerate(curves):
        label = f"{plain(curve.name)}: AP50 {100 * curve.ap:.1f}, {curve.num_gt} objects"
        style = _style(curve, index)
        axes.plot(100 * curve.recall, 100 * curve.precision, label=label, **style)
    _finish(axes, title, "recall in %", "precision in %")
    axes.set(xlim=(0, 101), ylim=(0, 101))


def _draw_over_score(axes: Axes, curves: Sequence[ClassCurve], title: str) -> None:
    for index, curve in enumerate(curves):
        style, best = _style(curve, index), curve.best_score()
        label = plain(curve.name)
        if not math.isnan(best):
            label += f": best F1 from {best:.2f} on"
            axes.axvline(best, color=style["color"], linestyle=":", linewidth=1)
        axes.plot(curve.scores, 100 * curve.precision, label=label, **style)
        axes.plot(curve.scores, 100 * curve.recall, linestyle="--", **style)
    _finish(axes, title, "lowest score kept", "in %")
    axes.set(xlim=(0, 1), ylim=(0, 101))


def _style(curve: ClassCurve, index: int) -> dict[str, str]:
    """The colour of a class; points, too, where there are so few that lines may be invisible."""
    return {"color": f"C{index}", "marker": "." if len(curve.scores) < FEW_SCORES else ""}


def _finish(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=11)
    axes.set(xlabel=x, ylabel=y)
    if x == "iteration":
        axes.xaxis.set_major_locator(MaxNLocator("auto", steps=(1, 2, 2.5, 5, 10), integer=True))
    axes.grid(alpha=0.3)
    if axes.lines:
        _add_legend(axes)
    else:
        axes.text(0.5, 0.5, "none written", transform=axes.transAxes, ha="center")


def _add_legend(axes: Axes) -> None:
    """Below the axis' label: in a panel of this size any other place may be that of a curve."""
    below = ScaledTranslation(0, -_LEGEND_BELOW, axes.figure.dpi_scale_trans)
    for columns in (2, 1):
        legend = axes.legend(
            loc="upper left",
            bbox_to_anchor=(0, 0),
            bbox_transform=axes.transAxes + below,
            borderaxespad=0,
            ncols=columns,
            fontsize=9,
            frameon=False,
            handlelength=1.5,
        )
        if legend.get_window_extent().width / axes.figure.dpi <= _LEGEND_WIDTH:
            break
