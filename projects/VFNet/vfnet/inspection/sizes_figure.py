"""A picture of a data set: how large objects are, of which shape, and how many a picture has."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..data.checks.survey import Boxes
from .figures import DPI, plain

# More classes than colours are drawn as one.
COLOURED_CLASSES, SIZE_INCHES = 9, (15.0, 4.8)


def draw_sizes(boxes: Boxes, names: Sequence[str], num_pictures: int) -> Figure:
    """Draw how large objects are, of which shape, and how many a picture has; colours: classes."""
    figure = Figure(figsize=SIZE_INCHES, dpi=DPI, layout="constrained")
    sides, shapes, numbers = figure.subplots(1, 3)
    counts = np.bincount(boxes.classes, minlength=len(names))
    order = np.argsort(-counts, kind="stable")
    shown = order[:COLOURED_CLASSES] if len(order) > COLOURED_CLASSES + 1 else order
    labels = [f"{plain(names[c])} ({counts[c]})" for c in shown]
    groups = [boxes.classes == c for c in shown]
    if len(shown) < len(order):
        groups.append(~np.isin(boxes.classes, shown))
        labels.append(f"{len(order) - len(shown)} other classes ({groups[-1].sum()})")
    side = np.sqrt(boxes.sizes.prod(axis=1)).clip(min=1)
    ratio = boxes.sizes[:, 0] / boxes.sizes[:, 1]
    _histogram(sides, [side[g] for g in groups], labels)
    _histogram(shapes, [ratio[g].clip(1 / 16, 16) for g in groups], labels)
    for border in (32, 96):
        sides.axvline(border, color="black", linestyle=":", linewidth=1)
    sides.set(title="Size (dotted: COCO's small, medium, large)", xlabel="√area in pixels")
    shapes.set(title="Shape", xlabel="width / height")
    per_picture = np.bincount(boxes.pictures, minlength=num_pictures)
    width = per_picture.max() // 30 + 1
    numbers.hist(
        per_picture, np.arange(0, per_picture.max() + width + 1, width) - 0.5, color="grey"
    )
    numbers.yaxis.get_major_locator().set_params(integer=True)
    numbers.set(title="Objects in a picture", xlabel="objects", ylabel="pictures")
    sides.legend(fontsize=8)
    return figure


def _histogram(axes: Axes, values: Sequence[np.ndarray], labels: Sequence[str]) -> None:
    """A stacked histogram over powers of two."""
    everything = np.log2(np.concatenate(values))
    low, high = np.floor(everything.min()), np.ceil(everything.max() + 1e-9)
    bins = 2.0 ** np.linspace(low, high, int(4 * max(high - low, 1)) + 1)
    axes.hist(values, bins=bins, stacked=True, label=labels)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_ylabel("objects")
