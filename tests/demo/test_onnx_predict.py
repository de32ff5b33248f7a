"""demo/onnx_predict.py and the file that tools/export.py writes for it: the real commands."""

import subprocess
import sys

import pytest
from detectron2.data.detection_utils import read_image

from tests.export.detectors import saved_detector, write_pictures
from tests.extras import needs
from vfnet.predictor import build_predictor

pytestmark = needs("export")

# As where only onnxruntime, Pillow and numpy are installed: importing the others fails.
WITHOUT_TORCH = """
import runpy, sys
sys.modules.update(dict.fromkeys(("torch", "torchvision", "detectron2", "vfnet", "cv2", "onnx")))
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_file_proves_itself_and_predicts_without_torch(repository, tmp_path):
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
