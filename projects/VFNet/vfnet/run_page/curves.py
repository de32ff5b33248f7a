"""The curves of a run as SVG that takes the colours of the page it stands in."""

import io
import re
import warnings
from collections.abc import Callable

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from ..inspection.run_figure import PANEL_INCHES

# A colour that nothing is drawn in: it stands for the colour of the page's text.
_TEXT = "#010203"
# Left, bottom, width and height of the axes, which leave room for a title of two lines.
_PLACE = (0.13, 0.12, 0.85, 0.76)
# Beyond what is drawn, in inches.
_MARGIN = 0.05
_STYLE = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor"), _TEXT),
    **dict.fromkeys(("xtick.color", "ytick.color"), _TEXT),
    "svg.fonttype": "none",  # text stays text
}


def draw_svg(draw: Callable[[Axes], None], number: int) -> str:
    """Draw a panel -> an svg element to stand within a page, without ids of other `number`s."""
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": f"panel {number}"}):
        figure = Figure(figsize=PANEL_INCHES)
        draw(figure.add_axes(_PLACE))
        width, height = PANEL_INCHES
        stream = io.StringIO()
        with warnings.catch_warnings():
            # Of glyphs that its own font lacks: the browser has others.
            warnings.simplefilter("ignore")
            # As far down as the legend goes, and to the left where an axis has long numbers; else
            # the width, and with it the size of letters, is one.
            drawn = figure.get_tightbbox()
            left, bottom = (min(0.0, edge - _MARGIN) for edge in (drawn.x0, drawn.y0))
            figure.savefig(
                stream,
                format="svg",
                bbox_inches=Bbox.from_extents(left, bottom, width, height),
                transparent=True,
                metadata={"Date": None},
            )
    text = stream.getvalue()
    element = text[text.index("<svg") :]  # without the head of a file
    element = re.sub(r"<metadata>.*?</metadata>", "", element, count=1, flags=re.S)
    # Only what is referred to by its name keeps one: groups have the same in each panel.
    return re.sub(r'<g id="[^"]*"', "<g", element).replace(_TEXT, "currentColor")
