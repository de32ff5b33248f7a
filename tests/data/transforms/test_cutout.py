import itertools

import numpy as np
import pytest
from detectron2.data import transforms as T

import vfnet
from vfnet.data.transforms.cutout import CutoutTransform, RandomCutout, build_cutout
from vfnet.errors import UserError

from ..distributions import assert_share, assert_uniform

DRAWS = 4000
# Facts of VFNet-X, which are the defaults.
SIZES = [(4, 4), (4, 8), (8, 4), (8, 8), (16, 8), (8, 16), (16, 16), (16, 32), (32, 16)]
SIZES += [(32, 32), (32, 48), (48, 32), (48, 48)]


@pytest.fixture(autouse=True)
def seeded():
    np.random.seed(0)


def make_config(**changes):
    cfg = vfnet.get_cfg()
    cfg.INPUT.CUTOUT.ENABLED = True
    for key, value in changes.items():
        cfg.INPUT.CUTOUT[key] = value
    return cfg


def draw(shape, count=DRAWS, **changes):
    """Transforms that the built augmentation draws for an image (height, width)."""
    (cutout,) = build_cutout(make_config(**changes))
    image = np.zeros(shape, np.uint8)
    return [cutout(T.AugInput(image)) for _ in range(count)]


@pytest.fixture(scope="module")
def holes():
    """All holes of the published augmentation in an image of 640x480, image by image."""
    np.random.seed(0)
    return [transform.holes for transform in draw((480, 640), PROBABILITY=1.0)]


def test_five_to_ten_holes_are_equally_likely(holes):
    assert_uniform([len(h) for h in holes], range(5, 11))


def test_the_thirteen_sizes_are_equally_likely(holes):
    inside = [h for h in np.concatenate(holes) if h[0] <= 640 - 48 and h[1] <= 480 - 48]
    assert_uniform([(h[2] - h[0], h[3] - h[1]) for h in inside], SIZES)


def test_holes_of_one_image_differ(holes):
    # 13 sizes, 307200 corners: two equal holes are about one in four million pairs.
    assert all(len(np.unique(h, axis=0)) == len(h) for h in holes)


def test_the_top_left_corner_is_uniform_over_the_pixels():
    transforms = draw((4, 6), 1000, PROBABILITY=1.0)
    corners = [tuple(hole[:2]) for t in transforms for hole in t.holes]
    assert_uniform(corners, list(itertools.product(range(6), range(4))))


def test_holes_end_at_the_border(holes):
    all_holes = np.concatenate(holes)
    assert all_holes.min() == 0 and (all_holes[:, 2:].max(axis=0) == (640, 480)).all()
    assert (all_holes[:, 2:] > all_holes[:, :2]).all()
    # Where the 48 pixels would not fit, there is what does.
    assert (all_holes[:, 2] - all_holes[:, 0])[all_holes[:, 0] > 636].max() <= 3


@pytest.mark.parametrize("probability", [0.5, 0.2, 0.0, 1.0])
def test_the_share_of_images_with_holes_is_the_probability(probability):
    transforms = draw((48, 64), PROBABILITY=probability)
    assert_share([isinstance(t, CutoutTransform) for t in transforms], probability)


def test_holes_by_hand():
    image = np.full((3, 5, 3), 200, np.uint8)
    image.setflags(write=False)  # as PIL's are
    cut = CutoutTransform(np.array([[1, 0, 3, 2], [4, 2, 5, 3]])).apply_image(image)
    kept = [[1, 0, 0, 1, 1], [1, 0, 0, 1, 1], [1, 1, 1, 1, 0]]
    assert (cut == 200 * np.array(kept)[:, :, None]).all()
    assert (image == 200).all() and cut.dtype == np.uint8


def test_boxes_points_and_masks_stay():
    transform = CutoutTransform(np.array([[0, 0, 5, 3]]))
    box, points, mask = np.array([[1.0, 0, 4, 2]]), np.array([[1.0, 2]]), np.ones((3, 5), np.uint8)
    assert (transform.apply_box(box) == box).all()
    assert (transform.apply_coords(points) == points).all()
    assert (transform.apply_segmentation(mask) == mask).all()


def test_no_hole_is_a_number_of_holes_too():
    transform = RandomCutout((0, 0), SIZES).get_transform(np.ones((4, 4), np.uint8))
    assert (transform.apply_image(np.ones((4, 4))) == 1).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"PROBABILITY": 1.5}, "CUTOUT.PROBABILITY has to be a probability.*; got 1.5"),
        ({"NUM_HOLES": (10, 5)}, r"NUM_HOLES has to be \[lowest, highest\].*; got \(10, 5\)"),
        ({"NUM_HOLES": (5,)}, r"got \(5,\)"),
        ({"SIZES": ()}, r"SIZES has to be a list of .*; got \(\)"),
        ({"SIZES": (8, 8)}, r"got \(8, 8\)"),
        ({"SIZES": ((8, 0),)}, r"got \(\(8, 0\),\)"),
    ],
)
def test_what_holes_cannot_have_is_an_error(changes, message):
    with pytest.raises(UserError, match=message):
        build_cutout(make_config(**changes))


def test_there_is_none_unless_enabled():
    assert build_cutout(vfnet.get_cfg()) == []
