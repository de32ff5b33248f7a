"""Boxes drawn on pictures."""

import colorsys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from detectron2.utils.visualizer import Visualizer
from PIL import Image

from .errors import UserError
from .utils.files import write_aside


def class_color(index: int) -> tuple[float, float, float]:
    """Return the colour of a class, (r, g, b) from 0 to 1; neighbours are far apart in hue."""
    golden_ratio = 0.618034
    return colorsys.hsv_to_rgb((0.55 + index * golden_ratio) % 1.0, 0.9, 1.0)


def draw_boxes(
    image: np.ndarray,
    boxes: np.ndarray,
    classes: Sequence[int],
    names: Sequence[str],
    scores: Sequence[float] | None = None,
    scale: float = 1.0,
) -> np.ndarray:
    """Draw boxes with class names, and scores if given; a class has one colour in all pictures.

    Args:
        image: (H, W, 3) uint8, RGB.
        boxes: (N, 4) xyxy in pixels of `image`.
        classes: N indices into `names`.
        scores: N numbers from 0 to 1.
        scale: size of the result by size of `image`; texts keep their size.

    Returns:
        (H * scale, W * scale, 3) uint8, RGB.
    """
    labels = [names[index] for index in classes]
    if scores is not None:
        labels = [f"{label} {score:.2f}" for label, score in zip(labels, scores)]
    colors = [class_color(index) for index in classes]
    visualizer = Visualizer(np.ascontiguousarray(image), scale=scale)
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    drawing = visualizer.overlay_instances(boxes=boxes, labels=labels, assigned_colors=colors)
    return drawing.get_image()


def write_picture(path: str | Path, image: np.ndarray) -> None:
    """Write (H, W, 3) uint8 RGB in the format that the name ends in, aside first, then renamed."""
    path = Path(path)
    file_format = Image.registered_extensions().get(path.suffix.lower())
    if file_format is None:
        raise UserError(f"expected a picture's name such as {path.stem}.png, got {path}")
    with write_aside(path) as stream:
        Image.fromarray(image).save(stream, format=file_format, quality=95)
