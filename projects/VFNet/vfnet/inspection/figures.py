"""What the figures of this folder share."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from ..drawing.fonts import find_font
from ..errors import UserError
from ..utils.text import printable
from ..visualization import write_picture

DPI = 100


def figure_pixels(figure: Figure) -> np.ndarray:
    """Draw a figure, its texts with fonts that have their glyphs -> (H, W, 3) uint8, RGB."""
    for text in figure.findobj(Text):
        if not text.get_text().isascii() and (file := find_font(text.get_text())):
            text.set_fontproperties(FontProperties(fname=file, size=text.get_fontsize()))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()


def write_figure(path: str | Path, figure: Figure) -> None:
    """Write a figure in the format that the name ends in; folders that are not there are made.

    Raises:
        UserError: no format of pictures; the folder cannot be made.
    """
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_picture(path, figure_pixels(figure))
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error}): choose another") from error


def plain(text: str) -> str:
    """Text that Matplotlib draws as it is: names are data, neither formulas nor lines."""
    return printable(text).replace("$", r"\$")


def show_picture(axes: Axes, image: np.ndarray, faded: float = 0.0) -> None:
    """Show (H, W, 3) uint8 RGB without ticks, whose pixels' corners are whole numbers, as boxes'.

    `faded` from 0 to 1 moves it towards white, so that what is drawn on it stands out.
    """
    height, width = image.shape[:2]
    pixels = image + (255 - image.astype(np.float32)) * faded
    axes.imshow(pixels.astype(np.uint8), extent=(0, width, height, 0), interpolation="bilinear")
    axes.set(xticks=[], yticks=[], xlim=(0, width), ylim=(height, 0))


def outline(axes: Axes, box: Sequence[float], **style: object) -> None:
    """Draw a box x1, y1, x2, y2 as a rectangle that is not filled."""
    x1, y1, x2, y2 = (float(side) for side in box)
    axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, **style))
