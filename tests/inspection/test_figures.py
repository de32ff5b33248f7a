"""What the figures share: names as they are, pictures where boxes say, files that are whole."""

import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from vfnet.errors import UserError
from vfnet.inspection import figures
from vfnet.inspection.figures import figure_pixels, outline, plain, show_picture, write_figure


@pytest.mark.parametrize("name", ["$x", "$\\frac$", "a$b$c", "x\ny", "\ud800", "\x1b[0m", "_^{"])
def test_any_name_can_be_drawn(name):
    figure = Figure(figsize=(1, 1))
    figure.add_subplot().set_title(plain(name))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the font lacks a sign
        assert figure_pixels(figure).min() < 100


def test_texts_get_a_font_that_has_their_glyphs(monkeypatch):
    serif = str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSerif.ttf")
    monkeypatch.setattr(figures, "find_font", lambda text: serif)
    figure = Figure(figsize=(1, 1))
    axes = figure.add_subplot()
    axes.set_title("äö", fontsize=7)
    axes.set_xlabel("ab")
    figure_pixels(figure)
    fonts = [text.get_fontproperties() for text in (axes.title, axes.xaxis.label)]
    assert [font.get_file() for font in fonts] == [serif, None]
    assert fonts[0].get_size() == 7


def test_a_box_is_drawn_around_its_own_pixels():
    image = np.zeros((40, 60, 3), np.uint8)
    image[10:20, 30:50] = (0, 0, 255)
    figure = Figure(figsize=(6, 4), dpi=100)  # ten pixels of the figure for one of the image
    axes = figure.add_axes((0, 0, 1, 1))
    show_picture(axes, image)
    outline(axes, (30, 10, 50, 20), edgecolor="red", linewidth=2)
    rows, columns = (figure_pixels(figure)[:, :, 0] > 200).nonzero()
    # A line of 2 points is 3 pixels wide, to either side of the edge.
    for found, wanted in ((rows, (100, 200)), (columns, (300, 500))):
        assert abs(found.min() - wanted[0]) <= 3 and abs(found.max() - wanted[1]) <= 3


def test_a_faded_picture_is_nearer_white():
    figure = Figure()
    show_picture(figure.add_subplot(), np.full((4, 4, 3), 55, np.uint8), faded=0.5)
    (shown,) = figure.axes[0].images
    assert (np.asarray(shown.get_array()) == 155).all()


@pytest.mark.parametrize("name", ["x", "x.txt", "x.psd", "x.xbm"])
def test_a_name_in_whose_format_nothing_can_be_written_is_named(tmp_path, name):
    with pytest.raises(UserError, match=name):
        write_figure(tmp_path / name, Figure(figsize=(1, 1)))
    assert not any(tmp_path.iterdir())


def test_folders_are_made_and_a_file_in_their_place_is_named(tmp_path):
    write_figure(tmp_path / "a" / "b" / "x.png", Figure(figsize=(1, 1)))
    assert Image.open(tmp_path / "a" / "b" / "x.png").size == (100, 100)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_figure(tmp_path / "file" / "x.png", Figure(figsize=(1, 1)))
