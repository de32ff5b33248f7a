from itertools import product

import cv2
import numpy as np
import pytest
from detectron2.data import transforms as T

import vfnet
from vfnet.data.transforms.resize import (
    Cv2ResizeTransform,
    MmcvResizeShortestEdge,
    PilResizeShortestEdge,
    ResizeBothEdges,
    build_resize,
    cv2_resize,
    mmcv_output_size,
    pil_resize,
)
from vfnet.errors import UserError

from ..distributions import assert_distributed, assert_share, assert_uniform


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((480, 640), (800, 1067)),  # 640 * 800 / 480 = 1066.67
        ((640, 480), (1067, 800)),
        ((427, 640), (800, 1199)),  # 640 * 800 / 427 = 1199.06
        ((300, 900), (444, 1333)),  # the longest edge binds: 300 * 1333 / 900 = 444.33
        ((222, 372), (796, 1333)),  # 222 * 1333 / 372 = 795.5, which rounds up
        ((265, 530), (667, 1333)),  # 265 * 1333 / 530 = 666.5, which rounds up
    ],
)
def test_sizes_by_hand(size, expected):
    assert mmcv_output_size(*size, 800, 1333) == expected


@pytest.mark.parametrize("size", [(222, 372), (265, 530)])
def test_these_sizes_differ_from_detectron2s(size):
    detectron2s = T.ResizeShortestEdge.get_output_shape(*size, 800, 1333)
    assert mmcv_output_size(*size, 800, 1333) != detectron2s


def test_pixels_are_opencvs_and_channels_stay():
    image = np.random.RandomState(0).randint(0, 255, (30, 40, 3)).astype(np.uint8)
    transform = MmcvResizeShortestEdge([60], 100, "choice").get_transform(image)
    resized = transform.apply_image(image[:, :, ::-1])
    np.testing.assert_array_equal(resized, cv2.resize(image, (80, 60))[:, :, ::-1])
    assert transform.apply_image(image[:, :, :1]).shape == (60, 80, 1)


def test_upscaling_by_hand():
    # Half-pixel centres: outputs lie at -1/4, 1/4, 3/4, 5/4 of the input's pixel distance.
    row = np.array([[0, 100]], dtype=np.uint8)
    resized = Cv2ResizeTransform(1, 2, 1, 4).apply_image(row)
    assert resized.tolist() == [[0, 25, 75, 100]]


def test_boxes_scale_per_axis():
    transform = Cv2ResizeTransform(222, 372, 796, 1333)
    box = transform.apply_box(np.array([[0, 0, 372, 111]]))[0]
    assert box.tolist() == [0, 0, 1333, 398]


def test_choice_draws_only_the_options():
    np.random.seed(0)
    augmentation = MmcvResizeShortestEdge([10, 30], 1000, "choice")
    image = np.zeros((20, 20, 3), np.uint8)
    assert {augmentation.get_transform(image).new_h for _ in range(40)} == {10, 30}


def test_range_includes_both_ends():
    np.random.seed(0)
    augmentation = MmcvResizeShortestEdge([10, 12], 1000, "range")
    image = np.zeros((20, 20, 3), np.uint8)
    assert {augmentation.get_transform(image).new_h for _ in range(60)} == {10, 11, 12}


def test_zero_leaves_the_image_as_it_is():
    image = np.zeros((20, 20, 3), np.uint8)
    transform = MmcvResizeShortestEdge([0], 1000, "choice").get_transform(image)
    assert isinstance(transform, T.NoOpTransform)


def draw_bounds(short, long, style="range", count=4000):
    """Pairs (bound of the short edge, bound of the long edge) that are drawn."""
    np.random.seed(0)
    augmentation = ResizeBothEdges(short, long, style, lambda h, w, *bounds: bounds)
    image = np.zeros((20, 30, 3), np.uint8)
    return [augmentation.get_transform(image) for _ in range(count)]


def test_both_bounds_are_uniform_and_independent_ends_included():
    assert_uniform(draw_bounds((5, 9), (20, 24)), list(product(range(5, 10), range(20, 25))))


def test_the_greater_draw_bounds_the_long_edge():
    # Nine pairs of draws, (1, 2) to (3, 4); 2 and 3 come in both orders.
    expected = {(1, 2): 1, (1, 3): 1, (1, 4): 1, (2, 2): 1, (2, 3): 2, (2, 4): 1, (3, 3): 1}
    expected = {pair: count / 9 for pair, count in {**expected, (3, 4): 1}.items()}
    assert_distributed(draw_bounds((1, 3), (2, 4)), expected)


def test_bounds_of_choice_come_from_the_options():
    assert_uniform(
        draw_bounds((5, 9, 11), (20, 24), "choice"), list(product((5, 9, 11), range(20, 25)))
    )


def test_one_long_bound_is_the_usual_range():
    # The published [(1333, 480), (1333, 960)].
    bounds = np.array(draw_bounds((480, 960), (1333, 1333), count=20000))
    assert (bounds[:, 1] == 1333).all() and set(bounds[:, 0]) == set(range(480, 961))


def test_the_long_edge_often_limits_with_vfnetx_ranges():
    # All 1351 x 901 pairs are equally likely. Of 640x480 the long edge limits where the long bound
    # is less than 4/3 of the short one: of a third of the pairs.
    long, short = np.meshgrid(range(750, 2101), range(500, 1401))
    long, short = np.maximum(long, short), np.minimum(long, short)
    share = (long * 480 < short * 640).mean()
    assert share == pytest.approx(0.335, abs=0.001)
    drawn = np.array(draw_bounds((500, 1400), (750, 2100)))
    assert_share(drawn[:, 1] * 480 < drawn[:, 0] * 640, share)
    np.random.seed(0)
    augmentation = ResizeBothEdges((500, 1400), (750, 2100), "range", cv2_resize)
    image = np.zeros((480, 640, 3), np.uint8)
    widths = [augmentation.get_transform(image).new_w for _ in range(4000)]
    expected = np.minimum(long / 640, short / 480) * 640
    assert np.mean(widths) == pytest.approx(expected.mean(), abs=4 * expected.std() / 4000**0.5)
    # From the short edge's least, 500, to where the greatest bounds meet, 1400: 500 / 480 * 640.
    assert min(widths) >= 667 and max(widths) <= 1867


@pytest.mark.parametrize("resize", [pil_resize, cv2_resize])
@pytest.mark.parametrize(
    ("short", "long", "expected"),
    [
        (96, 1000, (96, 128)),  # the short edge limits: twice
        (96, 100, (75, 100)),  # the long edge limits: 100 / 64
        (24, 32, (24, 32)),  # both
    ],
)
def test_the_first_bound_that_is_met_limits(resize, short, long, expected):
    transform = ResizeBothEdges((short,), (long, long), "choice", resize).get_transform(
        np.zeros((48, 64, 3), np.uint8)
    )
    assert transform.apply_image(np.zeros((48, 64, 3), np.uint8)).shape == (*expected, 3)
    box = transform.apply_box(np.array([[0, 0, 64, 48]]))[0]
    assert box.tolist() == [0, 0, expected[1], expected[0]]


def test_rounding_is_that_of_the_kind():
    # See test_sizes_by_hand: 222 * 1333 / 372 = 795.5.
    for resize in (cv2_resize, pil_resize):
        transform = ResizeBothEdges((800,), (1333, 1333), "choice", resize).get_transform(
            np.zeros((222, 372), np.uint8)
        )
        new_height = transform.apply_image(np.zeros((222, 372), np.uint8)).shape[0]
        assert new_height == (796 if resize is cv2_resize else 795)


def test_a_drawn_zero_leaves_the_image_as_it_is_with_two_bounds_too():
    augmentation = ResizeBothEdges((0,), (20, 30), "choice", cv2_resize)
    transform = augmentation.get_transform(np.zeros((20, 20), np.uint8))
    assert isinstance(transform, T.NoOpTransform)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "MAX_SIZE_TRAIN_RANGE",
            (2100, 750),
            r"MAX_SIZE_TRAIN_RANGE has to be \[lowest, highest\]",
        ),
        ("MAX_SIZE_TRAIN_RANGE", (750,), r"got \(750,\)"),
        ("MAX_SIZE_TRAIN_RANGE", (0, 750), "integers from 1 on; got"),
        ("MAX_SIZE_TRAIN_RANGE", (750.5, 800), r"got \(750.5, 800\)"),
        ("MIN_SIZE_TRAIN", (800,), 'MIN_SIZE_TRAIN with MIN_SIZE_TRAIN_SAMPLING "range"'),
        ("MIN_SIZE_TRAIN", (1400, 500), r"\[lowest, highest\].*; got \(1400, 500\)"),
        ("MIN_SIZE_TRAIN_SAMPLING", "uniform", 'has to be "range" or "choice"; got \'uniform\''),
    ],
)
def test_bounds_that_cannot_be_drawn_are_errors(key, value, message):
    cfg = vfnet.get_cfg()
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING = (500, 1400), "range"
    cfg.INPUT[key] = value
    with pytest.raises(UserError, match=message):
        build_resize(cfg, True)
    build_resize(cfg, False)


@pytest.mark.parametrize("lengths", [(), (-1,), (0.5,)])
def test_options_that_are_no_lengths_are_errors(lengths):
    cfg = vfnet.get_cfg()
    cfg.INPUT.MIN_SIZE_TRAIN = lengths
    with pytest.raises(UserError, match="MIN_SIZE_TRAIN has to be a list of integers from 0 on"):
        build_resize(cfg, True)


@pytest.mark.parametrize("resize", ["pil", "cv2"])
@pytest.mark.parametrize("is_train", [True, False])
@pytest.mark.parametrize("bounds", [(), (300, 320)])
@pytest.mark.parametrize("size", [(4, 3000), (3000, 4)])
def test_a_strip_keeps_a_pixel(resize, is_train, bounds, size):
    cfg = vfnet.get_cfg()
    cfg.INPUT.RESIZE, cfg.INPUT.MAX_SIZE_TRAIN_RANGE = resize, bounds
    cfg.INPUT.MIN_SIZE_TRAIN = (240,)
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST, cfg.INPUT.MAX_SIZE_TRAIN = 240, 320, 320
    image = np.zeros((*size, 3), np.uint8)
    resized = build_resize(cfg, is_train).get_transform(image).apply_image(image)
    assert min(resized.shape[:2]) == 1 and 300 <= max(resized.shape[:2]) <= 320


def test_pil_is_detectron2s_where_nothing_vanishes():
    for size in ((480, 640), (37, 900)):
        image = np.random.RandomState(0).randint(0, 255, (*size, 3)).astype(np.uint8)
        ours = PilResizeShortestEdge([60], 100, "choice").get_transform(image)
        theirs = T.ResizeShortestEdge([60], 100, "choice").get_transform(image)
        assert (ours.apply_image(image) == theirs.apply_image(image)).all()


@pytest.mark.parametrize(
    ("key", "value"), [("MAX_SIZE_TRAIN", 0), ("MAX_SIZE_TEST", 0), ("MIN_SIZE_TEST", -1)]
)
def test_a_length_that_is_none_is_named(key, value):
    cfg = vfnet.get_cfg()
    cfg.INPUT[key] = value
    with pytest.raises(UserError, match=rf"INPUT.{key} has to be an integer from [01] on.*{value}"):
        build_resize(cfg, is_train=key.endswith("TRAIN"))
