"""What is where in a picture of the shapes: geometry alone, no paint."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

CLASSES = ("circle", "square", "triangle")
# (width, height) in pixels: one wide, one tall.
_SIZES = ((192, 160), (160, 192))
_MAX_OBJECTS = 8
# Pixels: the longer side of a box.
_SMALLEST, _LARGEST = 22.0, 90.0
# An object stays clear enough under those drawn over it when this share of its area is seen, and
# when the box of what is seen still overlaps its own box by this intersection over union.
_MIN_VISIBLE = 0.65
_MIN_VISIBLE_BOX = 0.85
_TRIES = 40
# Radians to either side. Squares stand on a side and triangles too, or nearly: a small detector
# tells them apart after minutes.
_LARGEST_TILT = 0.4

Box = tuple[float, float, float, float]


class Shape(NamedTuple):
    """A circle or a regular polygon. Lengths in pixels; pixel (0, 0) reaches from 0 to 1."""

    category: int  # index in CLASSES
    x: float  # centre
    y: float
    radius: float  # of the circle, or of the circle through the corners
    angle: float  # radians, from the x axis to the first corner

    def box(self) -> Box:
        """Return the tight box x0, y0, x1, y1."""
        corners = _CORNERS[self.category]
        if not corners:
            reach = np.array([[-self.radius, -self.radius], [self.radius, self.radius]])
        else:
            angles = self.angle + 2 * math.pi * np.arange(corners) / corners
            reach = self.radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        (x0, y0), (x1, y1) = reach.min(axis=0), reach.max(axis=0)
        return self.x + x0, self.y + y0, self.x + x1, self.y + y1

    def signed_distance(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the distance to the outline in pixels, negative inside, for points x, y."""
        dx, dy = x - self.x, y - self.y
        corners = _CORNERS[self.category]
        if not corners:
            return np.hypot(dx, dy) - self.radius
        normals = self.angle + 2 * math.pi * (np.arange(corners) + 0.5) / corners
        reach = np.max([dx * math.cos(n) + dy * math.sin(n) for n in normals], axis=0)
        return reach - self.radius * math.cos(math.pi / corners)


class Layout(NamedTuple):
    """A picture's size and its objects, later ones drawn over earlier ones."""

    width: int
    height: int
    shapes: Sequence[Shape]


# Per class: corners (0 means round), and the angle of the first one of an object without a tilt.
_CORNERS = (0, 4, 3)
_UPRIGHT = (0.0, math.pi / 4, -math.pi / 2)


# A data set asks for a layout once for the boxes, once for the pixels, and again wherever it is
# loaded again, such as by every evaluation.
@lru_cache(maxsize=1024)
def draw_layout(seed: tuple[int, ...]) -> Layout:
    """Return the layout that follows from a seed: one to eight objects, each well visible."""
    # RandomState, because its numbers are the same in every version of NumPy.
    rng = np.random.RandomState(seed)
    width, height = _SIZES[rng.randint(len(_SIZES))]
    wanted = rng.randint(1, _MAX_OBJECTS + 1)
    canvas = _Canvas(width, height)
    for _ in range(_TRIES):
        if len(canvas.shapes) == wanted:
            break
        canvas.add_if_clear(_draw_shape(rng, width, height))
    return Layout(width, height, tuple(canvas.shapes))


def pixel_grid(box: Box, width: int, height: int) -> tuple[slice, slice, np.ndarray, np.ndarray]:
    """Return rows and columns of the pixels that a box touches, and their centres x and y."""
    x0, y0, x1, y1 = box
    columns = slice(max(math.floor(x0), 0), min(math.ceil(x1), width))
    rows = slice(max(math.floor(y0), 0), min(math.ceil(y1), height))
    x = np.arange(columns.start, columns.stop)[None, :] + 0.5
    y = np.arange(rows.start, rows.stop)[:, None] + 0.5
    return rows, columns, x, y


def _draw_shape(rng: np.random.RandomState, width: int, height: int) -> Shape:
    category = rng.randint(len(CLASSES))
    side = math.exp(rng.uniform(math.log(_SMALLEST), math.log(_LARGEST)))
    angle = _UPRIGHT[category] + rng.uniform(-_LARGEST_TILT, _LARGEST_TILT)
    unit = Shape(category, 0.0, 0.0, 1.0, angle)
    x0, y0, x1, y1 = unit.box()
    radius = side / max(x1 - x0, y1 - y0)
    return unit._replace(
        radius=radius,
        x=rng.uniform(-x0 * radius, width - x1 * radius),
        y=rng.uniform(-y0 * radius, height - y1 * radius),
    )


class _Canvas:
    """Knows which object each pixel shows."""

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.height = height
        self.shapes: list[Shape] = []
        self.areas: list[int] = []  # in pixels, covered or not
        self.owner = np.full((height, width), -1, np.int8)  # eight objects at most; small is fast

    def add_if_clear(self, shape: Shape) -> None:
        """Put a shape on top, unless it hides too much of another."""
        rows, columns, x, y = pixel_grid(shape.box(), self.width, self.height)
        mask = shape.signed_distance(x, y) < 0
        owner = self.owner.copy()
        owner[rows, columns][mask] = len(self.shapes)
        covered = np.unique(self.owner[rows, columns][mask])
        if all(self._is_clear(owner == index, index) for index in covered if index >= 0):
            self.owner = owner
            self.shapes.append(shape)
            self.areas.append(int(mask.sum()))

    def _is_clear(self, visible: np.ndarray, index: int) -> bool:
        if visible.sum() < _MIN_VISIBLE * self.areas[index]:
            return False
        (columns,), (rows,) = visible.any(axis=0).nonzero(), visible.any(axis=1).nonzero()
        seen = (columns[-1] + 1 - columns[0]) * (rows[-1] + 1 - rows[0])
        x0, y0, x1, y1 = self.shapes[index].box()
        # What is seen lies inside the box, so the ratio of the areas is their overlap.
        return seen >= _MIN_VISIBLE_BOX * (x1 - x0) * (y1 - y0)
