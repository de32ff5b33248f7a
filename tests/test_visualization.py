"""vfnet.visualization: lines, letters and names of pictures of all sizes."""

import numpy as np
import pytest

from vfnet.drawing import fonts
from vfnet.visualization import choose_style, class_color, draw_boxes, text_color

GREY = 128


def drawn(height, width, boxes, names=("cell",), classes=None, scores=None, **options):
    image = np.full((height, width, 3), GREY, np.uint8)
    classes = [0] * len(boxes) if classes is None else classes
    return draw_boxes(image, np.array(boxes, float), classes, names, scores, **options)


def pixels_of(picture, color):
    """Where a colour, (r, g, b) from 0 to 1, is: (H, W)."""
    return (np.abs(picture - np.array(color) * 255) < 2).all(axis=2)


@pytest.mark.parametrize("height, width", [(96, 96), (480, 640), (3000, 4000)])
def test_a_box_has_its_colour_along_its_edges_and_nothing_inside(height, width):
    box = [width * 0.3, height * 0.3, width * 0.8, height * 0.8]
    picture = drawn(height, width, [box])
    style = choose_style(width, height)
    (columns,) = np.nonzero(pixels_of(picture[height // 2 :][:1], class_color(0))[0, : width // 2])
    assert len(columns) == style.line
    assert abs(columns.mean() - box[0]) <= 1
    left, top, right, bottom = (round(edge) for edge in box)
    gap = 2 * style.line
    assert (picture[top + gap : bottom - gap, left + gap : right - gap] == GREY).all()


def test_lines_and_letters_grow_with_the_picture():
    small, large, huge = choose_style(96, 96), choose_style(640, 480), choose_style(4000, 3000)
    assert small.line < large.line < huge.line and small.text < large.text < huge.text
    assert (large.line, huge.line) == (3, 19)


def test_a_label_stands_inside_the_picture_and_leaves_the_object():
    picture = drawn(200, 300, [[0, 0, 120, 90]])
    found = pixels_of(picture, class_color(0))
    # Above and left there is no room: below the box, or beside it.
    found[:94, :124] = False
    assert found.sum() > 40
    assert picture.shape == (200, 300, 3)


def test_scale_is_of_the_picture_and_its_boxes():
    picture = drawn(60, 80, [[20, 20, 60, 50]], scale=2.5)
    assert picture.shape == (150, 200, 3)
    found = pixels_of(picture, class_color(0))
    assert found[100, 48:53].any() and found[100, 148:153].any() and not found[100, 60:140].any()


def test_the_best_of_equal_boxes_is_on_top():
    box = [20, 20, 180, 120]
    picture = drawn(150, 200, [box, box], "ab", classes=[0, 1], scores=[0.2, 0.9])
    assert pixels_of(picture, class_color(1))[60, 18:23].any()
    assert not pixels_of(picture, class_color(0))[60, 18:23].any()


@pytest.mark.parametrize(
    "name", ["$5_$", "$", "a\nb", "\x1b[31m", "红细胞", "", "x" * 300, "\ud800"]
)
def test_names_are_text_whatever_they_hold(name):
    assert not (drawn(100, 150, [[20, 30, 80, 90]], [name]) == GREY).all()


def test_names_without_a_font_become_numbers_and_one_line_says_so(caplog, monkeypatch):
    monkeypatch.setattr(fonts, "_installed_fonts", lambda: ())
    fonts.find_font.cache_clear()
    fonts._tell_of_missing_font.cache_clear()
    shown = [text for text, _ in fonts.names_with_fonts(["RBC", "红细胞", "白细胞", "Лейкоцит"])]
    fonts.names_with_fonts(["RBC", "红细胞", "白细胞", "Лейкоцит"])
    fonts.find_font.cache_clear()
    assert shown == ["RBC", "#1", "#2", "Лейкоцит"]
    (line,) = caplog.messages
    assert "no installed font has the glyphs of 2 class names, the first '红细胞'" in line


def test_no_boxes_leave_the_picture_as_it_is():
    assert (drawn(10, 12, []) == GREY).all()


def test_texts_have_contrast_on_all_colours():
    for index in range(40):
        color = tuple(round(255 * value) for value in class_color(index))
        levels = [contrast(color, text) for text in ((0, 0, 0), (255, 255, 255))]
        assert contrast(color, text_color(color)) == max(levels) > 4.5


def contrast(*colors):
    """WCAG's ratio, from 1 to 21."""
    values = np.array(colors) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    low, high = sorted(linear @ [0.2126, 0.7152, 0.0722])
    return (high + 0.05) / (low + 0.05)


def test_small_boxes_in_a_large_picture_are_not_hidden():
    corners = np.random.default_rng(0).uniform(0, 2900, (600, 2))
    boxes = np.concatenate((corners, corners + 12), axis=1)
    style = choose_style(4000, 3000, boxes)
    assert style.line == 1 and style.text == 12
    assert choose_style(4000, 3000, boxes * 50) == choose_style(4000, 3000)
    assert choose_style(4000, 3000, boxes / 12 * 8).text == 9
    # Hundreds of blood cells of 110 px are no mesh of lines.
    style = choose_style(2560, 1920, boxes / 12 * 110)
    assert style.line == 5 and style.text == 28
