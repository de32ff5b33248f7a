import cv2
import numpy as np
import pytest
from detectron2.data import transforms as T

from vfnet.data.resize import Cv2ResizeTransform, MmcvResizeShortestEdge, mmcv_output_size


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
    assert {augmentation.get_transform(image).new_height for _ in range(40)} == {10, 30}


def test_range_includes_both_ends():
    np.random.seed(0)
    augmentation = MmcvResizeShortestEdge([10, 12], 1000, "range")
    image = np.zeros((20, 20, 3), np.uint8)
    assert {augmentation.get_transform(image).new_height for _ in range(60)} == {10, 11, 12}


def test_zero_leaves_the_image_as_it_is():
    image = np.zeros((20, 20, 3), np.uint8)
    transform = MmcvResizeShortestEdge([0], 1000, "choice").get_transform(image)
    assert isinstance(transform, T.NoOpTransform)
