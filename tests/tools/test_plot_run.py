"""tools/plot_run.py: the real command on a folder that a run left, and what it refuses."""

import json
import sys

import numpy as np
import pytest
from detectron2.data import DatasetCatalog
from PIL import Image

from tests.engine.tiny import tiny_config
from tests.tools.inspected import run_tool
from vfnet.errors import UserError


def write_run(folder):
    """What a run on the drawn shapes leaves: two evaluations, whose detections are perfect."""
    rows = [
        {"iteration": i, "total_loss": 3 / (i + 1), "loss_cls": 1 / (i + 1), "lr": 0.1}
        for i in range(0, 100, 20)
    ]
    rows += [{"iteration": i, "bbox/AP": i / 2, "bbox/AP-disc": i / 3} for i in (49, 99)]
    rows += [{"iteration": i, "validation/total_loss": 4 / (i + 1)} for i in (49, 99)]
    lines = [json.dumps(row) + "\n" for row in rows]
    (folder / "metrics.json").write_text("".join(lines) + '{"iterat')
    cfg = tiny_config(folder, "DATASETS.TEST", "('shapes_val',)")
    (folder / "config.yaml").write_text(cfg.dump())
    return folder


def write_evaluation(folder):
    """The detections of an evaluation, and the copy of the ground truth that it makes."""
    from detectron2.data.datasets import convert_to_coco_json

    inference = folder / "inference"
    inference.mkdir()
    copy = inference / "shapes_val_coco_format.json"
    convert_to_coco_json("shapes_val", str(copy))
    results = [
        {"score": 1 / (1 + a["id"]), **{key: a[key] for key in ("image_id", "category_id", "bbox")}}
        for a in json.loads(copy.read_text())["annotations"]
    ]
    (inference / "coco_instances_results.json").write_text(json.dumps(results))
    return len(DatasetCatalog.get("shapes_val"))


def test_the_command_draws_the_run_beside_its_metrics(tmp_path):
    write_run(tmp_path)
    write_evaluation(tmp_path)
    result = run_tool("plot_run", tmp_path)
    assert result.returncode == 0, result.stderr
    assert "1 lines are not metrics" in result.stderr
    assert "without precision" not in result.stderr
    assert result.stdout.splitlines()[-1] == f"{tmp_path}: {tmp_path / 'training.png'}"
    picture = np.asarray(Image.open(tmp_path / "training.png")).astype(int)
    coloured = picture.max(axis=2) - picture.min(axis=2) > 50
    # Six panels, each with lines that are not black on white.
    for row in np.array_split(coloured, 2):
        assert all(part.sum() > 100 for part in np.array_split(row, 3, axis=1))


@pytest.fixture
def run(monkeypatch):
    """Call the tool's main() with a command line."""
    import plot_run

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", [str(part) for part in ("plot_run", *arguments)])
        plot_run.main()

    return call


def test_without_detections_the_rest_is_drawn_and_said(run, tmp_path, capsys):
    write_run(tmp_path)
    run(tmp_path, "--output", tmp_path / "new" / "plot.jpg")
    line = "without precision and recall: expected the detections of an evaluation, found no file"
    assert line in capsys.readouterr().err
    assert Image.open(tmp_path / "new" / "plot.jpg").size == (1560, 920)  # two rows
    with pytest.raises(UserError, match="found no file"):
        run(tmp_path, "--dataset", "shapes_val")


def test_nothing_is_written_where_there_are_no_metrics(run, tmp_path):
    with pytest.raises(UserError, match=r"no file at .*metrics\.json"):
        run(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_no_picture_s_is_refused(run, tmp_path):
    write_run(tmp_path)
    with pytest.raises(UserError, match=r"such as plot\.png, got .*plot\.txt"):
        run(tmp_path, "--output", tmp_path / "plot.txt")
    assert not (tmp_path / "plot.txt").exists()
