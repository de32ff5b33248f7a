import numpy as np
import pytest

from vfnet.data.datasets.shapes_layout import Layout, Shape, draw_layout
from vfnet.data.datasets.shapes_paint import coverage, paint


def alone(category, radius, angle):
    return Shape(category, 80.3, 70.6, radius, angle)


@pytest.mark.parametrize("category", range(3))
@pytest.mark.parametrize("angle", [0.0, 0.4, 1.3])
@pytest.mark.parametrize("radius", [9.0, 44.0])
def test_a_box_is_tight_around_what_is_painted(category, angle, radius):
    shape = alone(category, radius, angle)
    seed = (1, 2, 3)
    ground = paint(Layout(192, 160, []), seed).astype(int)
    # The grain differs too, by less: it is drawn after the object's colours.
    changed = np.abs(paint(Layout(192, 160, [shape]), seed) - ground).max(axis=2) > 30
    (columns,), (rows,) = changed.any(axis=0).nonzero(), changed.any(axis=1).nonzero()
    painted = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    assert painted == pytest.approx(shape.box(), abs=1.0)


def test_one_seed_gives_one_picture():
    layout = draw_layout((1, 2))
    first, again, other = (paint(layout, (5, seed)) for seed in (1, 1, 2))
    assert (first == again).all() and (first != other).mean() > 0.5


def test_pictures_are_rgb_bytes_of_the_layouts_size():
    layout = draw_layout((1, 2))
    picture = paint(layout, (5, 1))
    assert picture.shape == (layout.height, layout.width, 3) and picture.dtype == np.uint8


def test_the_ground_has_texture():
    picture = paint(Layout(192, 160, []), (5, 1))
    assert picture.std(axis=(0, 1)).min() > 8


def test_coverage_by_hand():
    # An upright square from 10 to 20.25: the pixel from 20 to 21 is covered by a quarter.
    side = 10.25
    square = Shape(1, 10 + side / 2, 10 + side / 2, side / np.sqrt(2), np.pi / 4)
    x = np.array([9.5, 10.5, 19.5, 20.5, 21.5])
    assert coverage(square, x, np.full(5, 15.0)) == pytest.approx([0, 1, 1, 0.25, 0])
