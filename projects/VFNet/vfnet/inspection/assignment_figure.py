"""A picture of an `Assignment`: all boxes, then a panel for each level."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ..visualization import class_color
from .assignment import Assignment, Level
from .figures import DPI, outline, plain, show_picture

PANEL_INCHES = 4.2
COLUMNS = 3
LARGE_CELL = 8  # pixels of the figure
NOT_LEARNT = "red"


def draw_assignment(image: np.ndarray, assignment: Assignment, names: Sequence[str]) -> Figure:
    """Draw which locations learn which box: both in the box's own colour.

    A location is the square of its cell. The first panel has all boxes; those that nothing learns
    are red. A level's panel has the boxes that it learns.

    Args:
        image: (H, W, 3) uint8, RGB, that the boxes belong to.
        names: of the classes.
    """
    panels = len(assignment.levels) + 1
    rows = math.ceil(panels / COLUMNS)
    height, width = image.shape[:2]
    row = PANEL_INCHES * height / width + 0.4
    size = (COLUMNS * PANEL_INCHES, rows * row)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    cells = figure.subplots(rows, COLUMNS, squeeze=False).flat
    _draw_boxes(cells[0], image, assignment, names)
    for axes, level in zip(cells[1:], assignment.levels):
        _draw_level(axes, image, assignment, level)
    for axes in cells[panels:]:
        axes.axis("off")
    return figure


def _draw_boxes(
    axes: Axes, image: np.ndarray, assignment: Assignment, names: Sequence[str]
) -> None:
    show_picture(axes, image)
    learners = assignment.learners().tolist()
    edge = [patheffects.withStroke(linewidth=2, foreground="black")]
    for index, (box, number) in enumerate(zip(assignment.gt_boxes.tolist(), learners)):
        color = class_color(index) if number else NOT_LEARNT
        outline(axes, box, edgecolor=color, linewidth=2, linestyle="-" if number else "--")
        name = plain(names[int(assignment.gt_classes[index])])
        text = {"fontsize": 8, "weight": "bold", "path_effects": edge, "va": "top"}
        text["color"] = "white" if number else NOT_LEARNT
        axes.text(box[0] + 2, box[1] + 2, f"{name} {number}", clip_on=True, **text)
    total, left_out = len(learners), learners.count(0)
    title = f"{total} boxes, and how many {assignment.unit} learn each"
    if left_out:
        title += f"; {left_out} without any"
    axes.set_title(title, fontsize=10, color=NOT_LEARNT if left_out else "black")


def _draw_level(axes: Axes, image: np.ndarray, assignment: Assignment, level: Level) -> None:
    show_picture(axes, image, faded=0.5)
    colors = [class_color(index) for index in level.gt_index.tolist()]
    # Where cells are small, gaps between them and black around them would hide their colours.
    is_large = level.stride * PANEL_INCHES * DPI / image.shape[1] >= LARGE_CELL
    side = level.stride - 1 if is_large else level.stride
    squares = [
        Rectangle((x - side / 2, y - side / 2), side, side) for x, y in level.points.tolist()
    ]
    style = {"edgecolors": "black", "linewidths": 0.5, "alpha": 0.7}
    if not is_large:
        style = {"edgecolors": "none"}
    axes.add_collection(PatchCollection(squares, facecolors=colors, **style))
    learnt = sorted(set(level.gt_index.tolist()))
    for index in learnt:
        outline(axes, assignment.gt_boxes[index], edgecolor=class_color(index), linewidth=2)
    if is_large:
        axes.plot(*level.points.numpy().T, "k.", markersize=3, scalex=False, scaley=False)
    height, width = level.size
    what = f"{len(squares)} {assignment.unit} learn {len(learnt)} boxes" if learnt else "no box"
    place = f"{level.name.upper()}, stride {level.stride}, {width} x {height} cells"
    axes.set_title(f"{place}: {what}", fontsize=10)
