"""The points of many detections on one picture, where the figure of each would be too much."""

import math

import numpy as np
from PIL import Image, ImageColor, ImageDraw

from .star_figure import POINT

# Diagonals of a picture per radius of a point.
_DIAGONALS_PER_RADIUS = 300
# Pillow's circles are jagged: points are drawn larger, and made smaller.
_FINER = 4


def draw_star_points(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Draw points as dots with a dark rim, whose size follows the picture's.

    Args:
        image: (H, W, 3) uint8, RGB.
        points: (D, 9, 2), x and y in pixels of `image`; those outside are left out.

    Returns:
        a copy with the points.
    """
    picture = Image.fromarray(np.ascontiguousarray(image))
    radius = max(1.5, math.hypot(*picture.size) / _DIAGONALS_PER_RADIUS)
    dot = _draw_dot(radius)
    for x, y in points.reshape(-1, 2).tolist():
        if 0 <= x < picture.width and 0 <= y < picture.height:
            corner = (round(x - dot.width / 2), round(y - dot.height / 2))
            picture.paste(dot, corner, dot)
    return np.asarray(picture)


def _draw_dot(radius: float) -> Image.Image:
    rim = max(1.0, radius / 3)
    edge = math.ceil(2 * (radius + rim)) + 1
    dot = Image.new("RGBA", (edge * _FINER, edge * _FINER))
    canvas, middle = ImageDraw.Draw(dot), (edge * _FINER / 2, edge * _FINER / 2)
    canvas.circle(middle, (radius + rim) * _FINER, fill="black")
    canvas.circle(middle, radius * _FINER, fill=ImageColor.getrgb(POINT))
    return dot.resize((edge, edge), Image.Resampling.LANCZOS)
