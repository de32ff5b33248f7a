"""From a layout of shapes to a picture: textured ground, shaded objects with smooth edges."""

import colorsys

import cv2
import numpy as np

from .shapes_layout import Layout, Shape, pixel_grid

# The golden ratio's fraction: hues that follow each other by it are far apart.
_HUE_STEP = 0.61803398875


def paint(layout: Layout, seed: tuple[int, ...]) -> np.ndarray:
    """Return the (H, W, 3) uint8 RGB picture of a layout; the seed decides colours and texture."""
    rng = np.random.RandomState(seed)
    picture = _ground(rng, layout.width, layout.height)
    hue = rng.uniform()
    for number, shape in enumerate(layout.shapes):
        _paint_shape(picture, shape, hue + number * _HUE_STEP, rng)
    picture += rng.normal(0.0, 4.0, (layout.height, layout.width, 1))
    return picture.clip(0, 255).astype(np.uint8)


def coverage(shape: Shape, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return how much of each pixel (centres x, y) a shape covers, from 0 to 1."""
    return np.clip(0.5 - shape.signed_distance(x, y), 0.0, 1.0)


def _ground(rng: np.random.RandomState, width: int, height: int) -> np.ndarray:
    """Return a greyish ground: a gradient, smooth clouds and a finer grain."""
    base = rng.uniform(70, 170) + rng.uniform(-12, 12, 3)
    slope = rng.uniform(-35, 35, 2)
    x, y = np.linspace(-1, 1, width)[None, :], np.linspace(-1, 1, height)[:, None]
    picture = base + (slope[0] * x + slope[1] * y)[..., None]
    for cells, strength in ((4, 22.0), (12, 9.0), (40, 7.0)):
        noise = rng.normal(0.0, strength, (cells, cells, 1)) + rng.normal(
            0.0, strength / 4, (cells, cells, 3)
        )
        picture += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return picture


def _paint_shape(picture: np.ndarray, shape: Shape, hue: float, rng: np.random.RandomState) -> None:
    height, width = picture.shape[:2]
    rows, columns, x, y = pixel_grid(shape.box(), width, height)
    colour = np.array(colorsys.hsv_to_rgb(hue % 1.0, rng.uniform(0.6, 1.0), rng.uniform(0.65, 1.0)))
    angle = rng.uniform(0, 2 * np.pi)
    across = ((x - shape.x) * np.cos(angle) + (y - shape.y) * np.sin(angle)) / shape.radius
    shade = 1.0 + rng.uniform(0.0, 0.2) * across
    alpha = coverage(shape, x, y)[..., None]
    region = picture[rows, columns]
    region += alpha * (255 * colour * shade[..., None] - region)
