"""Pictures that no mapper can use: each is named, with what is wrong with it."""

import numpy as np
import pytest
from PIL import Image

import vfnet
from vfnet.data import build_mapper
from vfnet.errors import UserError


def make_mapper(is_train=True, **keys):
    cfg = vfnet.get_cfg()
    cfg.INPUT.RESIZE = "pil"
    cfg.INPUT.update(keys)
    return build_mapper(cfg, is_train)


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp"])
def test_a_truncated_picture_is_named(tmp_path, suffix):
    file = tmp_path / f"half.{suffix}"
    pixels = np.random.RandomState(0).randint(0, 255, (60, 80, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    record = {"file_name": str(file), "width": 80, "height": 60, "annotations": []}
    with pytest.raises(UserError, match=rf"half\.{suffix} cannot be decoded"):
        make_mapper()(record)


def test_a_picture_of_too_many_pixels_is_named(tmp_path, monkeypatch):
    file = tmp_path / "huge.png"
    Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(file)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    record = {"file_name": str(file), "width": 80, "height": 60, "annotations": []}
    mapper = make_mapper(MAX_PIXELS=60 * 80 - 2)
    with pytest.raises(UserError, match=r"huge\.png has 4800 pixels, and INPUT.MAX_PIXELS"):
        mapper(record)
    mapper.max_pixels = 60 * 80
    assert mapper(record)["image"].ndim == 3


@pytest.mark.parametrize("error", [OSError, SyntaxError, ValueError])
def test_whatever_the_decoder_raises_names_the_picture(tmp_path, monkeypatch, error):
    def read(*arguments, **more):
        raise error("bad chunk")

    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    monkeypatch.setattr("detectron2.data.detection_utils.read_image", read)
    with pytest.raises(UserError, match=r"a\.png cannot be decoded \(bad chunk\)"):
        make_mapper()({"file_name": str(tmp_path / "a.png")})


@pytest.mark.parametrize("is_train", [True, False])
def test_a_16_bit_picture_is_named(tmp_path, is_train):
    file = tmp_path / "deep.png"
    Image.fromarray(np.full((60, 80), 40000, np.uint16)).save(file)
    record = {"file_name": str(file), "width": 80, "height": 60, "annotations": []}
    with pytest.raises(UserError, match=r"deep\.png has pixels of mode I;16, .* 8 bits"):
        make_mapper(is_train)(record)


def test_a_picture_of_another_size_is_named(tmp_path):
    file = tmp_path / "other.png"
    Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(file)
    record = {"file_name": str(file), "width": 60, "height": 80, "annotations": []}
    with pytest.raises(UserError, match=r"other\.png, got \(80, 60\), expect \(60, 80\)"):
        make_mapper()(record)
