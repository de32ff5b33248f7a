"""Files that are not there, not whole or not what their json says; resizing by the json."""

import json

import numpy as np
import pytest
import torch
from detectron2.data import transforms as T

from vfnet.errors import UserError
from vfnet.export import load_exported
from vfnet.export.description import (
    Description,
    ResizeRule,
    description_path,
    read_description,
    write_description,
)
from vfnet.export.padding import build_resize, pad_together
from vfnet.export.runtimes import RUNTIMES
from vfnet.predictor import Predictor

DESCRIPTION = Description(
    format="openvino",
    precision="float32",
    detector="VFNet",
    config="vfnet",
    class_names=["cell", "Zelle"],
    input_format="BGR",
    raw=False,
    batch=1,
    size=None,
    resize=ResizeRule("pil", 800, 1333),
    candidates="pair",
    score_threshold=0.05,
    topk=1000,
    iou_threshold=0.6,
    max_detections=100,
    weights="model.pth",
    weights_sha256="0" * 64,
    versions={"vfnet": "0"},
    files={},
    checked=None,
)


@pytest.fixture
def file(tmp_path):
    """A pair of files and their json, as far as that goes without a runtime."""
    path = tmp_path / "vfnet.xml"
    path.write_text("<net/>")
    path.with_suffix(".bin").write_bytes(b"weights")
    write_description(DESCRIPTION, description_path(path))
    return path


def test_a_description_is_read_as_it_was_written(file):
    read = read_description(file)
    assert set(read.files) == {"vfnet.xml", "vfnet.bin"}
    assert read._replace(files={}) == DESCRIPTION


def test_what_is_missing_or_changed_is_said(file, tmp_path):
    with pytest.raises(UserError, match=r"there is no file .*other\.onnx"):
        load_exported(tmp_path / "other.onnx")
    with pytest.raises(UserError, match=r"\.onnx or \.xml, got .*model\.pth"):
        load_exported(tmp_path / "model.pth")
    weights = file.with_suffix(".bin")
    weights.write_bytes(b"weight")
    with pytest.raises(UserError, match=r"vfnet\.bin is not the file that .*vfnet\.json describes"):
        load_exported(file)
    weights.unlink()
    with pytest.raises(UserError, match=r"vfnet\.bin is missing"):
        load_exported(file)
    description_path(file).unlink()
    with pytest.raises(UserError, match=r"there is no .*vfnet\.json"):
        load_exported(file)


@pytest.fixture
def without_runtime(monkeypatch):
    monkeypatch.setitem(RUNTIMES, "openvino", lambda path: None)


def test_a_run_does_not_go_on_with_a_file_of_other_weights(file, without_runtime):
    """An .xml of other weights is the same: they lie beside it."""
    before = Predictor(file).settings
    assert Predictor(file).settings == before
    file.with_suffix(".bin").write_bytes(b"others")
    write_description(DESCRIPTION, description_path(file))
    assert Predictor(file).settings != before


def test_a_raw_file_is_no_predictor(file, without_runtime):
    write_description(DESCRIPTION._replace(raw=True), description_path(file))
    with pytest.raises(UserError, match="exported with --raw .* no detections"):
        Predictor(file)


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"format": "onnx"}', "null", "[" * 100_000, "9" * 5000]
)
def test_a_json_of_something_else_is_an_error(file, content):
    description_path(file).write_text(content)
    with pytest.raises(UserError, match="expected the json that tools/export.py writes"):
        load_exported(file)


@pytest.mark.parametrize("files", [[1], {"vfnet.onnx": 3}, {"../vfnet.onnx": ""}, 3])
def test_a_json_of_files_that_are_none_is_an_error(file, files):
    path = description_path(file)
    path.write_text(json.dumps({**json.loads(path.read_text()), "files": files}))
    with pytest.raises(UserError, match="expected the json that tools/export.py writes"):
        read_description(file)


def test_a_json_of_another_file_is_an_error(file):
    path = description_path(file)
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "files": {"atss.onnx": ""}}))
    with pytest.raises(UserError, match="describes atss.onnx, not vfnet.xml"):
        load_exported(file)


@pytest.mark.parametrize("method", ["pil", "cv2"])
@pytest.mark.parametrize(
    "size, picture, expected",
    [
        (None, (480, 640), (800, 1067)),
        (None, (300, 900), (444, 1333)),
        ((800, 1333), (480, 640), (800, 1067)),  # both edges fit
        ((800, 1333), (640, 480), (800, 600)),
        ((800, 1333), (300, 900), (444, 1333)),
    ],
)
def test_a_picture_becomes_as_large_as_the_file_takes(method, size, picture, expected):
    described = DESCRIPTION._replace(size=size, resize=ResizeRule(method, 800, 1333))
    image = np.zeros((*picture, 3), dtype=np.uint8)
    resized = build_resize(described).get_transform(image).apply_image(image)
    assert resized.shape == (*expected, 3)
    plain = DESCRIPTION._replace(resize=ResizeRule(method, 0, 0))
    assert build_resize(plain).get_transform(image).apply_image(image).shape == image.shape
    assert isinstance(build_resize(plain), T.Augmentation)


def test_images_stand_in_the_upper_left_corner_of_zeros():
    images = [torch.full((3, 2, 4), 7.0), torch.full((3, 3, 1), 300.0)]
    array, sizes = pad_together(images, 3, None)
    assert array.shape == (3, 3, 3, 4) and array.dtype == np.uint8
    assert sizes.tolist() == [[2, 4], [3, 1], [1, 1]]
    assert array[0].sum() == 3 * 8 * 7 and (array[0, :, :2, :] == 7).all()
    assert array[1].sum() == 3 * 3 * 255 and array[2].sum() == 0
    with pytest.raises(UserError, match="up to 2x4 pixels .*, got 3x4"):
        pad_together(images, 2, (2, 4))
