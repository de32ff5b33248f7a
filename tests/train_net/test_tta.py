"""The command `train_net.py`: scores with test-time augmentation beside the plain ones."""

import json
from types import SimpleNamespace

import pytest
import torch
from detectron2.modeling import build_model

from tests.engine.tiny import CONFIG, tiny_config
from vfnet.errors import UserError

TTA = ("TEST.AUG.ENABLED", "True", "TEST.AUG.MIN_SIZES", "(64,)", "TEST.AUG.MAX_SIZE", "96")


def test_evaluation_alone_scores_both(command, tmp_path):
    torch.manual_seed(0)
    model = build_model(tiny_config(tmp_path))
    torch.save({"model": model.state_dict()}, tmp_path / "model.pth")
    expected = [["bbox", "AP", 50.0, 50.0], ["bbox_TTA", "AP", 50.0, 50.0]]  # 0 to 100
    done = command(
        *("--eval-only", "OUTPUT_DIR", tmp_path / "out", "DATASETS.TEST", "('shapes_val',)", *TTA),
        *("MODEL.WEIGHTS", tmp_path / "model.pth", "MODEL.VFNET.SCORE_THRESH_TEST", "0.0"),
        *("TEST.DETECTIONS_PER_IMAGE", "5", "MODEL.VFNET.TOPK_CANDIDATES_TEST", "20"),
        *("TEST.EXPECTED_RESULTS", expected),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Results verification passed" in done.stdout
    plain, augmented = done.stdout.split("scoring with test-time augmentation: 2 views")
    assert "Evaluation results for shapes_val" in plain
    assert "Evaluation results for shapes_val" in augmented
    records = [
        json.loads((tmp_path / "out" / folder / "coco_instances_results.json").read_text())
        for folder in ("inference", "inference_TTA")
    ]
    assert len(records[0]) > 0 and len(records[1]) > 0 and records[0] != records[1]


def test_training_ends_with_both(train_net, monkeypatch, tmp_path):
    cfg = tiny_config(tmp_path, *TTA, "SOLVER.MAX_ITER", "1", "SOLVER.STEPS", "()")
    cfg.DATASETS.TEST = ("shapes_val",)
    monkeypatch.setattr(train_net, "setup", lambda args: cfg)
    scored = []
    for name in ("test", "test_with_TTA"):
        monkeypatch.setattr(train_net.Trainer, name, lambda *_, name=name: scored.append(name))
    given = {"config_file": str(CONFIG), "opts": ["OUTPUT_DIR", str(tmp_path)], "override": []}
    train_net.main(SimpleNamespace(**given, eval_only=False, resume=False))
    assert scored == ["test", "test_with_TTA"]


def test_sizes_that_cannot_be_are_found_before_anything_is_written(train_net, tmp_path):
    pairs = ["TEST.AUG.ENABLED", "True", "TEST.AUG.MAX_SIZES", "(100, 200)"]
    words = ["--config-file", str(CONFIG), *pairs, "OUTPUT_DIR", str(tmp_path / "out")]
    with pytest.raises(UserError, match="MAX_SIZES has 2 lengths, but MIN_SIZES has 9"):
        train_net.setup(train_net.parse_args(words))
    assert not (tmp_path / "out").exists()
