"""Pictures whose memory lies as Detectron2 wants it."""

import numpy as np
import pytest
from detectron2.data import DatasetMapper

from vfnet import get_cfg
from vfnet.data import build_mapper
from vfnet.data.transforms.planes import as_planes


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("view", ["plain", "flipped", "upside down", "cropped", "cropped, flipped"])
def test_planes_hold_the_same_picture_and_need_no_copy(view, channels):
    whole = np.random.default_rng(0).integers(0, 256, (7, 9, channels), dtype=np.uint8)
    image = {
        "plain": whole,
        "flipped": np.flip(whole, axis=1),
        "upside down": np.flip(whole, axis=0),
        "cropped": whole[1:6, 2:8],
        "cropped, flipped": np.flip(whole[1:6, 2:8], axis=1),
    }[view]
    planes = as_planes(image)
    assert np.array_equal(planes, image)
    assert planes.transpose(2, 0, 1).flags.c_contiguous


@pytest.mark.parametrize("image", [np.ones((2, 3), np.uint8), np.ones((2, 3, 3), np.float32)])
def test_pictures_of_other_kinds_stay_as_they_are(image):
    assert as_planes(image) is image


@pytest.mark.parametrize("is_train", [True, False])
def test_the_mapper_gives_the_bits_of_detectron2s(is_train, repository):
    cfg = get_cfg()
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = (300,), 300
    picture = {"file_name": str(repository / "docs" / "bccd_predictions.jpg"), "annotations": []}
    images = []
    for mapper in (DatasetMapper(cfg, is_train), build_mapper(cfg, is_train)):
        np.random.seed(2)  # flips
        images.append([mapper(picture)["image"] for _ in range(4)])
    theirs, ours = images
    for one, other in zip(theirs, ours):
        assert one.is_contiguous() and other.is_contiguous()
        assert one.equal(other)
    flipped = [not one.equal(theirs[0]) for one in theirs]
    assert any(flipped) == is_train
