"""tools/export.py and demo/onnx_predict.py: the real commands, and what the first refuses."""

import importlib.util
import subprocess
import sys
from types import ModuleType

import pytest
from detectron2.data.detection_utils import read_image

from tests.engine.tiny import CONFIG
from tests.engine.tiny_libra import CONFIG as LIBRA
from tests.export.detectors import saved_detector, write_pictures
from tests.extras import needs
from vfnet.errors import UserError
from vfnet.predictor import build_predictor

# As where only onnxruntime, Pillow and numpy are installed: importing the others fails.
WITHOUT_TORCH = """
import runpy, sys
sys.modules.update(dict.fromkeys(("torch", "torchvision", "detectron2", "vfnet", "cv2", "onnx")))
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


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


@pytest.mark.extra
def test_a_file_proves_itself_and_predicts_without_torch(repository, tmp_path):
    needs("export")
    cfg, _ = saved_detector("vfnet", tmp_path, two_levels=True, TOPK_CANDIDATES_TEST=50)
    (tmp_path / "blocks.yaml").write_text(cfg.dump())
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (picture,) = write_pictures(pictures, (60, 80))
    command = [sys.executable, "tools/export.py", "--config-file", tmp_path / "blocks.yaml"]
    command += ["--format", "onnx", "--size", "96x128", "--output", tmp_path / "out"]
    done = subprocess.run(
        [*command, "--check", pictures], cwd=repository, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "On 1 pictures it agrees with torch: boxes to " in done.stdout
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert files == ["blocks.json", "blocks.onnx"]

    expected = build_predictor(cfg)(read_image(picture, "BGR"))["instances"]
    assert len(expected) > 3
    program = [repository / "demo" / "onnx_predict.py", tmp_path / "out" / "blocks.onnx"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *program, picture], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == [
        cfg.MODEL.VFNET.CLASS_NAMES[kind] for kind in expected.pred_classes
    ]
    for line, score, box in zip(lines, expected.scores, expected.pred_boxes.tensor):
        assert float(line[1]) == pytest.approx(score.item(), abs=2e-3)
        assert [float(x) for x in line[3:]] == pytest.approx(box.tolist(), abs=0.11)


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
