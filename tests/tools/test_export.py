"""tools/export.py: what it refuses. What it writes: tests/export and tests/demo."""

import importlib.util
import sys
from types import ModuleType

import pytest

from tests.engine.tiny import CONFIG
from tests.engine.tiny_libra import CONFIG as LIBRA
from tests.export.detectors import saved_detector
from vfnet.errors import UserError


@pytest.fixture
def run(repository, monkeypatch, tmp_path):
    """Call the tool's main() with a command line."""
    spec = importlib.util.spec_from_file_location("export", repository / "tools" / "export.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)

    def call(config, *more):
        command = ["export", "--config-file", config, "--format", "onnx", "--output", tmp_path]
        monkeypatch.setattr(sys, "argv", [str(part) for part in (*command, *more)])
        tool.main()

    return call


@pytest.mark.parametrize(
    "more, message",
    [
        (("--size", "800"), "HEIGHTxWIDTH in pixels, as in 800x1333, got '800'"),
        (("--size", "0x10"), "HEIGHTxWIDTH"),
        (("--batch", "0"), "--batch of at least 1, got 0"),
        (("--check", "nothing*.png"), r"found nothing at nothing\*.png"),
        ((), "MODEL.WEIGHTS is empty"),
    ],
)
def test_what_cannot_be_exported_is_said(run, tmp_path, more, message):
    with pytest.raises(UserError, match=message):
        run(CONFIG, *more)
    assert not list(tmp_path.iterdir())


def test_two_stages_are_refused_before_their_weights_are_read(run, tmp_path):
    with pytest.raises(UserError, match="got GeneralizedRCNN.*choose a config"):
        run(LIBRA, "--opts", "MODEL.WEIGHTS", "nowhere.pth")
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_said_before_the_detector_is_exported(run, tmp_path, monkeypatch):
    for package in ("onnx", "onnxscript"):  # whether they are installed here or not
        monkeypatch.setitem(sys.modules, package, ModuleType(package))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr("vfnet.export.write.export_program", None)
    cfg, _ = saved_detector("atss", tmp_path)
    (tmp_path / "config.yaml").write_text(cfg.dump())
    with pytest.raises(
        UserError, match=r"needs the package onnxruntime .*vfnet-detectron2\[export"
    ):
        run(tmp_path / "config.yaml")


def test_a_file_of_another_format_keeps_its_json(run, tmp_path):
    """Both would have one json: tiny.json."""
    (tmp_path / "tiny.xml").write_text("<net/>")
    with pytest.raises(UserError, match="tiny.xml is there, which .*tiny.json describes: choose"):
        run(CONFIG, "--opts", "MODEL.WEIGHTS", "model.pth")


@pytest.mark.parametrize(
    "more, message",
    [
        (("--int8", "--calibrate", "pictures"), "--int8 expects --format openvino, got .* onnx"),
        (("--format", "openvino", "--int8"), "--int8 and --calibrate PICTURES go together"),
        (("--calibrate", "pictures"), "--int8 and --calibrate PICTURES go together"),
        (
            ("--format", "openvino", "--int8", "--calibrate", "shapes_val"),
            "at least 128 pictures to calibrate on, found 100",
        ),
        (("--raw", "--check", "shapes_val"), "--raw gives no detections to score"),
    ],
)
def test_what_int8_and_scores_need_is_said(run, tmp_path, more, message):
    with pytest.raises(UserError, match=message):
        run(CONFIG, *more)
    assert not list(tmp_path.iterdir())
