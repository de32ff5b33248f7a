"""A picture of `Stars`: the whole image with the detections, and each of them near by."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..modeling.losses.box import iou_and_giou
from .figures import DPI, outline, plain, show_picture
from .star import Stars

# A cell of the detections at the right; the image takes twice that height.
CELL_INCHES = 2.7
COLUMNS = 3
FIRST, REFINED, POINT, LOCATION = "#ff9500", "#00e5ff", "#ffee00", "#ff2fd0"
# Bright on dark, whatever the picture is.
_EDGE = [patheffects.withStroke(linewidth=4, foreground="black")]
_DASHES = (0, (3, 3))


def draw_stars(
    image: np.ndarray, stars: Stars, names: Sequence[str], level_names: Sequence[str]
) -> Figure:
    """Draw detections with the nine points that each was read at, first and refined box.

    Args:
        image: (H, W, 3) uint8, RGB.
        stars: in pixels of `image`, at least one.
        names: of the classes. level_names: of the levels, such as "p3".
    """
    number = len(stars.scores)
    columns = min(COLUMNS, math.ceil(number / 2))
    rows = max(2, math.ceil(number / columns))
    height, width = image.shape[:2]
    overview = min(2 * COLUMNS, max(1.0, 2 * width / height))  # in cells
    size = ((overview + columns) * CELL_INCHES, rows * (CELL_INCHES + 0.3) + 0.5)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    grid = figure.add_gridspec(rows, columns + 1, width_ratios=[overview, *[1] * columns])
    whole = figure.add_subplot(grid[:, 0])
    show_picture(whole, image)
    whole.set_title(f"the {number} best detections")
    for index in range(number):
        _draw_star(whole, stars, index, small=True)
        near = figure.add_subplot(grid[index // columns, 1 + index % columns])
        show_picture(near, image)
        _draw_star(near, stars, index)
        _look_at(near, stars, index)
        name = plain(names[int(stars.classes[index])])
        level = level_names[int(stars.levels[index])].upper()
        score = float(stars.scores[index])
        near.set_title(f"{index + 1}: {name} {score:.2f} on {level}", fontsize=10)
        if stars.refined:
            iou, _ = iou_and_giou(stars.boxes[index, None], stars.first_boxes[index, None])
            near.set_xlabel(f"IoU of both boxes {float(iou):.2f}", fontsize=9)
    figure.legend(handles=_legend(stars.refined), loc="outside lower center", ncols=4)
    return figure


def _draw_star(axes: Axes, stars: Stars, index: int, small: bool = False) -> None:
    width, box = 1.5 if small else 2.2, stars.boxes[index]
    outline(axes, box, edgecolor=REFINED if stars.refined else FIRST, linewidth=width)
    if stars.refined:  # above the other one, through whose gaps that is seen where both agree
        dashes = {"linestyle": _DASHES, "linewidth": width}
        outline(axes, stars.first_boxes[index], edgecolor=FIRST, **dashes)
    # Points may lie outside the image, whose own frame stays.
    dots = {"markeredgecolor": "black", "clip_on": small, "scalex": False, "scaley": False}
    size = 4 if small else 9
    axes.plot(*stars.points[index].numpy().T, "o", color=POINT, markersize=size, zorder=3, **dots)
    place = stars.locations[index].numpy()[:, None]
    axes.plot(*place, "X", color=LOCATION, markersize=1.4 * size, zorder=4, **dots)
    if small:
        text = {"color": "white", "fontsize": 11, "weight": "bold", "path_effects": _EDGE}
        axes.text(float(box[0]) + 3, float(box[1]) + 3, str(index + 1), va="top", **text)


def _look_at(axes: Axes, stars: Stars, index: int) -> None:
    """Show the square around a detection: its boxes and points, and a margin."""
    box, first = stars.boxes[index].numpy(), stars.first_boxes[index].numpy()
    corners = np.concatenate(
        [stars.points[index].numpy(), [box[:2], box[2:], first[:2], first[2:]]]
    )
    low, high = corners.min(axis=0), corners.max(axis=0)
    centre, half = (low + high) / 2, 0.62 * float((high - low).max())
    axes.set(
        xlim=(centre[0] - half, centre[0] + half),
        ylim=(centre[1] + half, centre[1] - half),
        facecolor="#dddddd",
    )


def _legend(refined: bool) -> list[Line2D]:
    dots = {"linestyle": "", "markeredgecolor": "black", "markersize": 9}
    boxes = [Line2D([], [], color=FIRST, linewidth=2.5, label="the box")]
    if refined:
        boxes = [
            Line2D([], [], color=FIRST, linewidth=2.5, linestyle=_DASHES, label="first box"),
            Line2D([], [], color=REFINED, linewidth=2.5, label="refined box"),
        ]
    return [
        *boxes,
        Line2D([], [], marker="o", color=POINT, label="the nine points that are read", **dots),
        Line2D([], [], marker="X", color=LOCATION, label="the location", **dots),
    ]
