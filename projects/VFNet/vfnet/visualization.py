"""Boxes drawn on pictures, to be read at a glance."""

import colorsys
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from .drawing.fonts import load_font, names_with_fonts
from .drawing.places import place_labels
from .errors import UserError
from .utils.files import write_aside

# Diagonals of a picture per pixel of a line, and per pixel of a letter's height; the least of both.
_DIAGONALS_PER_LINE, _DIAGONALS_PER_TEXT = 260, 52
_THINNEST, _SMALLEST_TEXT = 1, 9
# The longer side of a box by the widest line around it, and by the highest letter, which is as high
# as the box where that is needed to be read.
_SIDES_PER_LINE, _SIDES_PER_TEXT = 24, 4
_READABLE_TEXT = 12
# The most of a picture that labels may cover, before their letters become smaller.
_LABEL_SHARE = 0.15
# Hues of the first classes, chosen to differ at a glance; then golden steps around the circle.
_HUES = (0.58, 0.98, 0.36, 0.10, 0.77, 0.48, 0.89, 0.16)
_GOLDEN_RATIO = 0.618034


class Style(NamedTuple):
    """Widths and heights in pixels: of a box's line, of a letter, of the room around a text."""

    line: int
    text: int
    padding: int


def class_color(index: int) -> tuple[float, float, float]:
    """Return the colour of a class, (r, g, b) from 0 to 1; neighbours are far apart in hue."""
    hue = _HUES[index] if index < len(_HUES) else (index * _GOLDEN_RATIO) % 1.0
    return colorsys.hsv_to_rgb(hue, 0.95, 0.95)


def text_color(color: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return black or white, whichever has the more contrast on a colour, (r, g, b) to 255.

    By the relative luminance of WCAG 2 (https://www.w3.org/TR/WCAG21/#dfn-contrast-ratio).
    """
    linear = [(c / 255 / 12.92, ((c / 255 + 0.055) / 1.055) ** 2.4)[c > 10] for c in color]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (0, 0, 0) if (luminance + 0.05) ** 2 > 1.05 * 0.05 else (255, 255, 255)


def choose_style(width: int, height: int, boxes: np.ndarray | None = None) -> Style:
    """Return what suits a picture of this size, and hides no boxes (N, 4) that are mostly small."""
    line = math.hypot(width, height) / _DIAGONALS_PER_LINE
    text = math.hypot(width, height) / _DIAGONALS_PER_TEXT
    if boxes is not None and len(boxes):
        side = float(np.median((boxes[:, 2:] - boxes[:, :2]).max(axis=1)))
        line = min(line, side / _SIDES_PER_LINE)
        text = min(text, max(min(side, _READABLE_TEXT), side / _SIDES_PER_TEXT))
    line, text = max(_THINNEST, round(line)), max(_SMALLEST_TEXT, round(text))
    return Style(line, text, max(1, round(text / 7)))


def draw_boxes(
    image: np.ndarray,
    boxes: np.ndarray,
    classes: Sequence[int],
    names: Sequence[str],
    scores: Sequence[float] | None = None,
    scale: float = 1.0,
) -> np.ndarray:
    """Draw boxes with class names, and scores if given; a class has one colour in all pictures.

    Lines and letters follow the size of the result, and are small where most boxes are. Labels
    stand inside the picture where they hide least, those of high scores first; in crowded pictures
    their letters are smaller, and those that find no place are left out. Names are text, whatever
    they hold: see `names_with_fonts`.

    Args:
        image: (H, W, 3) uint8, RGB.
        boxes: (N, 4) xyxy in pixels of `image`.
        classes: N indices into `names`.
        scores: N numbers from 0 to 1.
        scale: size of the result by size of `image`.

    Returns:
        (H * scale, W * scale, 3) uint8, RGB.
    """
    picture = Image.fromarray(np.ascontiguousarray(image))
    if scale != 1.0:
        size = [max(1, round(edge * scale)) for edge in picture.size]
        picture = picture.resize((size[0], size[1]), Image.Resampling.LANCZOS)
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4) * scale
    order = range(len(boxes)) if scores is None else np.argsort(-np.asarray(scores), kind="stable")
    boxes, classes = boxes[list(order)], [int(classes[i]) for i in order]
    colors = [_bytes(class_color(index)) for index in classes]
    style, canvas = choose_style(*picture.size, boxes), ImageDraw.Draw(picture)
    for box, color in reversed(list(zip(boxes, colors))):  # the best on top
        _draw_outline(canvas, box, color, style.line)

    labels = names_with_fonts(names)
    texts = [labels[index][0] for index in classes]
    if scores is not None:
        texts = [f"{text} {scores[i]:.2f}" for text, i in zip(texts, order)]
    files = [labels[index][1] for index in classes]
    style, sizes = _fit_labels(canvas, texts, files, style)
    for index, place in place_labels(boxes, sizes, picture.size).items():
        _draw_label(canvas, texts[index], files[index], colors[index], place, style)
    return np.asarray(picture)


def write_picture(path: str | Path, image: np.ndarray) -> None:
    """Write (H, W, 3) uint8 RGB in the format that the name ends in, aside first, then renamed.

    Raises:
        UserError: the name ends in no format of pictures that can be written.
        OSError: the file cannot be written.
    """
    path = Path(path)
    file_format = Image.registered_extensions().get(path.suffix.lower())
    if file_format not in Image.SAVE:
        raise UserError(f"expected a picture's name such as {path.stem}.png, got {path}")
    with write_aside(path) as stream:
        Image.fromarray(image).save(stream, format=file_format, quality=95)


def _bytes(color: tuple[float, float, float]) -> tuple[int, int, int]:
    red, green, blue = (round(255 * value) for value in color)
    return red, green, blue


def _draw_outline(
    canvas: ImageDraw.ImageDraw, box: np.ndarray, color: tuple[int, int, int], line: int
) -> None:
    """A line along the edges of a box, on a thin dark one that parts it from a bright picture."""
    width, height = canvas.im.size
    x1, y1, x2, y2 = np.round(box).astype(int)
    halo = max(1, line // 3)
    for grow, thickness, paint in (
        (line // 2 + halo, line + 2 * halo, tuple(value // 3 for value in color)),
        (line // 2, line, color),
    ):
        left, top = max(x1 - grow, 0), max(y1 - grow, 0)
        right, bottom = min(x2 + grow, width) - 1, min(y2 + grow, height) - 1
        edges = (left, top, max(left, right), max(top, bottom))
        canvas.rectangle(edges, outline=paint, width=thickness)


def _fit_labels(
    canvas: ImageDraw.ImageDraw, texts: Sequence[str], files: Sequence[str], style: Style
) -> tuple[Style, list[tuple[int, int]]]:
    """Return the style whose labels leave enough of the picture to see, and their sizes."""

    def sizes_in(style: Style) -> list[tuple[int, int]]:
        sizes = []
        for text, file in zip(texts, files):
            width = load_font(file, style.text).getlength(text)
            sizes.append((math.ceil(width) + 2 * style.padding, style.text + 2 * style.padding))
        return sizes

    area = sum(width * height for width, height in sizes_in(style))
    room = _LABEL_SHARE * canvas.im.size[0] * canvas.im.size[1]
    if area > room:
        text = max(_SMALLEST_TEXT, round(style.text * max(0.6, math.sqrt(room / area))))
        style = style._replace(text=text, padding=max(1, round(text / 7)))
    return style, sizes_in(style)


def _draw_label(
    canvas: ImageDraw.ImageDraw,
    text: str,
    file: str,
    color: tuple[int, int, int],
    place: np.ndarray,
    style: Style,
) -> None:
    x1, y1, x2, y2 = place.tolist()
    canvas.rectangle((x1, y1, x2 - 1, y2 - 1), fill=color)
    middle = (x1 + style.padding, (y1 + y2) / 2)
    font = load_font(file, style.text)
    canvas.text(middle, text, fill=text_color(color), font=font, anchor="lm")
