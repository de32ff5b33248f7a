import itertools

import numpy as np
import pytest
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from PIL import Image

import vfnet
from vfnet.data import build_mapper
from vfnet.data.transforms.crop import CropWithBox, build_crop, holds_part_of_a_box
from vfnet.errors import UserError

from ..distributions import assert_distributed, assert_share

DRAWS = 4000
# "relative_range" from 3/4 on a side of 8 pixels: 8 u lies in [6, 8] and is rounded half up, so the
# size is 6, 7, 8 with probability 1/4, 1/2, 1/4, and there are 3, 2, 1 offsets.
SIDES = {
    (6, 0): 1 / 12,
    (6, 1): 1 / 12,
    (6, 2): 1 / 12,
    (7, 0): 1 / 4,
    (7, 1): 1 / 4,
    (8, 0): 1 / 4,
}


@pytest.fixture(autouse=True)
def seeded():
    np.random.seed(0)


@pytest.fixture
def map_picture(tmp_path):
    """A function that maps a 64x48 picture with boxes (xyxy, crowd or not) to a list of samples.

    The picture is black but for the rectangle from (4, 3) to (60, 45).
    """
    file = tmp_path / "picture.png"
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[3:45, 4:60] = 255
    Image.fromarray(pixels).save(file)

    def map_(boxes, count, crowd=()):
        annotations = [
            {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0, "iscrowd": iscrowd}
            for iscrowd, group in enumerate((boxes, crowd))
            for box in group
        ]
        record = {"file_name": str(file), "width": 64, "height": 48, "annotations": annotations}
        mapper = build_mapper(make_config(), True)
        return [mapper(record) for _ in range(count)]

    return map_


def make_config(size=(0.75, 0.75), kind="relative_range", probability=1.0):
    """Crops that no resizing follows."""
    cfg = vfnet.get_cfg()
    cfg.INPUT.CROP.ENABLED = True
    cfg.INPUT.CROP.SIZE, cfg.INPUT.CROP.TYPE = size, kind
    cfg.INPUT.CROP.PROBABILITY = probability
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.RANDOM_FLIP = (0,), "none"
    return cfg


def draw_crops(shape, boxes, count=DRAWS, probability=1.0):
    """Transforms that the built augmentation draws for an image (height, width)."""
    (crop,) = build_crop(make_config(probability=probability))
    inputs = (T.AugInput(np.zeros(shape, np.uint8), boxes=np.array(boxes)) for _ in range(count))
    return [crop(aug_input) for aug_input in inputs]


def sides(transforms):
    return [((t.h, t.y0), (t.w, t.x0)) for t in transforms]


def test_sizes_and_offsets_of_both_sides_are_independent_and_as_computed_by_hand():
    expected = {(a, b): SIDES[a] * SIDES[b] for a, b in itertools.product(SIDES, SIDES)}
    assert_distributed(sides(draw_crops((8, 8), np.zeros((0, 4)))), expected)


def test_sides_are_uniform_from_three_quarters_to_the_whole():
    crops = draw_crops((1000, 2000), np.zeros((0, 4)))
    ratios = np.array([(t.h / 1000, t.w / 2000) for t in crops])
    assert ratios.min() >= 0.75 and ratios.max() <= 1
    assert (ratios.min(axis=0) < 0.752).all() and (ratios.max(axis=0) > 0.998).all()
    np.testing.assert_allclose(ratios.mean(axis=0), 0.875, atol=4 * 0.25 / (12 * DRAWS) ** 0.5)
    np.testing.assert_allclose(ratios.std(axis=0), 0.25 / 12**0.5, rtol=0.04)
    assert abs(np.corrcoef(ratios.T)[0, 1]) < 4 / DRAWS**0.5


@pytest.mark.parametrize("probability", [0.5, 0.1, 0.0, 1.0])
@pytest.mark.parametrize("boxes", [np.zeros((0, 4)), [[0.0, 0.0, 2.0, 2.0]]])
def test_the_share_of_cropped_images_is_the_probability(probability, boxes):
    # With a box in the corner too: what is drawn again is the crop, not whether there is one.
    transforms = draw_crops((40, 40), boxes, 1000, probability)
    assert_share([isinstance(t, T.CropTransform) for t in transforms], probability)


def test_kept_crops_are_distributed_as_the_drawn_ones_that_hold_a_box():
    # Only crops with both offsets 0 hold the corner: sizes 6, 7, 8 as 1/12 : 1/4 : 1/4.
    corner = {(6, 0): 1 / 7, (7, 0): 3 / 7, (8, 0): 3 / 7}
    expected = {(a, b): corner[a] * corner[b] for a, b in itertools.product(corner, corner)}
    assert_distributed(sides(draw_crops((8, 8), [[0.0, 0.0, 1.0, 1.0]])), expected)


def test_one_of_several_boxes_is_enough():
    crops = draw_crops((8, 8), [[0.0, 0.0, 1.0, 1.0], [3.0, 3.0, 5.0, 5.0]])
    expected = {(a, b): SIDES[a] * SIDES[b] for a, b in itertools.product(SIDES, SIDES)}
    assert_distributed(sides(crops), expected)  # every crop holds the second


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([30, 25, 200, 200], True),
        ([0, 0, 12, 24], True),  # its centre lies outside
        ([0, 0, 10, 50], False),  # touches
        ([50, 20, 60, 30], False),  # touches
        ([0, 0, 12, 10], False),  # in x alone
        ([0, 0, 10.005, 50], False),  # so little may round to nothing
        ([0, 0, 10.02, 50], True),
    ],
)
def test_overlap_by_hand(box, expected):
    crop = T.CropTransform(10, 20, 40, 30)
    far = [500.0, 500.0, 600.0, 600.0]
    assert holds_part_of_a_box(crop, np.array([far, box])) is expected


def test_without_a_box_in_reach_the_image_stays_whole_after_the_last_try():
    class Counted(T.RandomCrop):
        drawn = 0

        def get_transform(self, image):
            self.drawn += 1
            return super().get_transform(image)

    crop = Counted("absolute", (4, 4))
    outside = np.array([[90.0, 90.0, 99.0, 99.0]])
    transform = CropWithBox(crop, 7).get_transform(np.zeros((8, 8), np.uint8), outside)
    assert isinstance(transform, T.NoOpTransform) and crop.drawn == 7


def test_a_tiny_box_in_a_corner_is_never_lost(map_picture):
    samples = map_picture([[61, 45, 64, 48]], 500)
    assert all(len(sample["instances"]) == 1 for sample in samples)
    assert sum(sample["image"].shape != (3, 48, 64) for sample in samples) > 250


def test_a_crowd_does_not_keep_a_crop(map_picture):
    samples = map_picture([[61, 45, 64, 48]], 100, crowd=[[0, 0, 64, 48]])
    assert all(len(sample["instances"]) == 1 for sample in samples)


@pytest.mark.parametrize("crowd", [[], [[0, 0, 2, 2]]])
def test_an_image_without_boxes_is_cropped_freely(map_picture, crowd):
    samples = map_picture([], 300, crowd)
    assert all(len(sample["instances"]) == 0 for sample in samples)
    heights = [sample["image"].shape[1] for sample in samples]
    # 48 u lies in [36, 48]: heights 36 and 48 with 1/24 each, those between with 1/12.
    expected = dict.fromkeys(range(37, 48), 1 / 12)
    assert_distributed(heights, {**expected, 36: 1 / 24, 48: 1 / 24})


def test_picture_and_box_are_cut_at_the_same_place(map_picture):
    found = set()
    for sample in map_picture([[4, 3, 60, 45]], 200):
        rows, columns = np.nonzero(sample["image"][0].numpy())
        painted = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        (box,) = sample["instances"].gt_boxes.tensor.tolist()
        assert tuple(box) == painted
        cut = [(painted[i] == 0, painted[i + 2] == sample["image"].shape[2 - i]) for i in (0, 1)]
        found.update(enumerate(itertools.chain(*cut)))
    # On each of the four sides, cut in some samples and not in others.
    assert len(found) == 8


@pytest.mark.parametrize(
    ("kind", "size", "message"),
    [
        ("square", (0.5, 0.5), "TYPE has to be .*; got 'square'"),
        ("relative_range", (0.75, 1.5), r"shares of the image.*; got \(0.75, 1.5\)"),
        ("relative", (0.0, 1.0), "above 0 and at most 1"),
        ("relative", (0.5,), r"got \(0.5,\)"),
        ("absolute", (0.5, 0.5), r"in pixels.*; got \(0.5, 0.5\)"),
        ("absolute_range", (300, 200), r"\[lowest, highest\].*; got \(300, 200\)"),
    ],
)
def test_sizes_that_no_crop_can_have_are_errors(kind, size, message):
    with pytest.raises(UserError, match=message):
        build_mapper(make_config(size, kind), True)


@pytest.mark.parametrize("probability", [-0.1, 1.1, float("nan"), "half"])
def test_another_probability_is_an_error(probability):
    with pytest.raises(UserError, match="INPUT.CROP.PROBABILITY has to be a probability"):
        build_mapper(make_config(probability=probability), True)


@pytest.mark.parametrize(
    ("kind", "size", "expected"),
    [
        ("relative", (0.5, 0.25), {(24, 16)}),
        ("absolute", (30, 500), {(30, 64)}),
        ("absolute_range", (20, 21), {(20, 20), (20, 21), (21, 20), (21, 21)}),
    ],
)
def test_detectron2s_other_types_work(kind, size, expected):
    (crop,) = build_crop(make_config(size, kind))
    image = np.zeros((48, 64), np.uint8)
    drawn = [crop(T.AugInput(image)) for _ in range(50)]
    assert {(t.h, t.w) for t in drawn} == expected
