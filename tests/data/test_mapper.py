import numpy as np
import pytest
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from PIL import Image

import vfnet
from vfnet.data import build_mapper
from vfnet.data.resize import MmcvResizeShortestEdge
from vfnet.data.shapes import load_shapes
from vfnet.errors import UserError


def make_config(resize="pil"):
    cfg = vfnet.get_cfg()
    cfg.INPUT.RESIZE = resize
    cfg.INPUT.FORMAT = "RGB"
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN = (128,), 256
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 128, 256
    return cfg


def kinds(mapper):
    return [type(augmentation) for augmentation in mapper.augmentations.augs]


def test_pil_is_detectron2s_mapper():
    cfg = make_config()
    record = load_shapes("train")[0]
    np.random.seed(3)
    ours = build_mapper(cfg, True)(record)
    np.random.seed(3)
    theirs = DatasetMapper(cfg, True)(record)
    assert (ours["image"] == theirs["image"]).all()
    boxes = ours["instances"].gt_boxes.tensor, theirs["instances"].gt_boxes.tensor
    assert (boxes[0] == boxes[1]).all() and len(boxes[0]) == len(record["annotations"])


def test_cv2_replaces_only_the_resizing():
    cfg = make_config("cv2")
    cfg.INPUT.CROP.ENABLED = True
    assert kinds(build_mapper(cfg, True)) == [T.RandomCrop, MmcvResizeShortestEdge, T.RandomFlip]
    assert kinds(build_mapper(cfg, False)) == [MmcvResizeShortestEdge]


@pytest.mark.parametrize("style", ["choice", "range"])
def test_cv2_keeps_lengths_and_style(style):
    cfg = make_config("cv2")
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING = (100, 120), style
    resize = build_mapper(cfg, True).augmentations.augs[0]
    assert tuple(resize.short_edge_length) == (100, 120)
    assert (resize.max_size, resize.sample_style) == (256, style)


def test_cv2_resizes_picture_and_boxes():
    record = load_shapes("train")[0]
    cfg = make_config("cv2")
    cfg.INPUT.RANDOM_FLIP = "none"
    mapped = build_mapper(cfg, True)(record)
    scale = 128 / min(record["width"], record["height"])
    assert min(mapped["image"].shape[1:]) == 128
    expected = np.array([a["bbox"] for a in record["annotations"]]) * scale
    np.testing.assert_allclose(mapped["instances"].gt_boxes.tensor, expected, atol=0.5)


def test_test_mapper_keeps_the_original_size_beside_the_picture():
    record = load_shapes("val")[0]
    mapped = build_mapper(make_config("cv2"), False)(record)
    assert (mapped["height"], mapped["width"]) == (record["height"], record["width"])
    assert "instances" not in mapped and min(mapped["image"].shape[1:]) == 128


def test_another_resizing_is_an_error():
    with pytest.raises(UserError, match='INPUT.RESIZE has to be "pil" or "cv2"; got \'bicubic\''):
        build_mapper(make_config("bicubic"), True)


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp"])
def test_a_truncated_picture_is_named(tmp_path, suffix):
    file = tmp_path / f"half.{suffix}"
    pixels = np.random.RandomState(0).randint(0, 255, (60, 80, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    record = {"file_name": str(file), "width": 80, "height": 60, "annotations": []}
    with pytest.raises(UserError, match=rf"half\.{suffix} cannot be decoded"):
        build_mapper(make_config(), True)(record)


def test_a_picture_of_too_many_pixels_is_named(tmp_path, monkeypatch):
    file = tmp_path / "huge.png"
    Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(file)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60 * 80 // 2 - 1)
    record = {"file_name": str(file), "width": 80, "height": 60, "annotations": []}
    with pytest.raises(UserError, match=r"huge\.png cannot be decoded .*decompression bomb"):
        build_mapper(make_config(), True)(record)


@pytest.mark.parametrize("error", [OSError, SyntaxError, ValueError])
def test_whatever_the_decoder_raises_names_the_picture(monkeypatch, error):
    def read(*arguments, **more):
        raise error("bad chunk")

    monkeypatch.setattr("detectron2.data.detection_utils.read_image", read)
    with pytest.raises(UserError, match=r"a\.png cannot be decoded \(bad chunk\)"):
        build_mapper(make_config(), True)({"file_name": "a.png"})


def test_a_picture_of_another_size_is_named(tmp_path):
    file = tmp_path / "other.png"
    Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(file)
    record = {"file_name": str(file), "width": 60, "height": 80, "annotations": []}
    with pytest.raises(UserError, match=r"other\.png, got \(80, 60\), expect \(60, 80\)"):
        build_mapper(make_config(), True)(record)
