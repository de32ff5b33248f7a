"""demo/demo.py: pictures, json, threshold, names, and broken files.

What a run writes and how it goes on: tests/test_prediction_run.py.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image

from tests.command import run_python
from tests.engine.tiny_libra import CONFIG as LIBRA
from tests.engine.tiny_retinanet import CONFIG as RETINANET
from vfnet.engine import load_config

from .commands import HEIGHT, NAMES, ROOT, WIDTH, arguments, predict


def test_command_writes_pictures_and_one_json(model, pictures, tmp_path):
    output = tmp_path / "out"
    inputs = [pictures / "a.png", pictures / "b.jpg"]
    done = run_python("demo/demo.py", *arguments(model, inputs, output), cwd=ROOT)
    assert done.returncode == 0, done.stderr

    assert sorted(p.name for p in output.iterdir()) == ["a.png", "b.jpg", "predictions.json"]
    records = json.loads((output / "predictions.json").read_text())
    assert [record["file"] for record in records] == [str(path) for path in inputs]
    for record, path in zip(records, inputs):
        assert (record["width"], record["height"]) == (WIDTH, HEIGHT)
        drawn = np.asarray(Image.open(output / path.name)).astype(int)
        assert drawn.shape == (HEIGHT, WIDTH, 3)
        assert np.abs(drawn - np.asarray(Image.open(path))).max() > 100
        assert record["detections"]
        for detection in record["detections"]:
            assert set(detection) == {"class", "class_id", "score", "box"}
            assert detection["class"] == NAMES[detection["class_id"]]
            assert 0.3 <= detection["score"] <= 1.0
            x1, y1, x2, y2 = detection["box"]
            assert 0 <= x1 < x2 <= WIDTH and 0 <= y1 < y2 <= HEIGHT


def test_a_higher_threshold_keeps_exactly_the_detections_above_it(demo, model, pictures, tmp_path):
    low, high = (
        predict(demo, model, [pictures], tmp_path / name, "--confidence-threshold", threshold)
        for name, threshold in (("low", 0.1), ("high", 0.55))
    )
    counts = [[len(record["detections"]) for record in records] for records in (low, high)]
    assert 0 < sum(counts[1]) < sum(counts[0])
    for record in low:
        record["detections"] = [d for d in record["detections"] if d["score"] >= 0.55]
    assert low == high


def test_threshold_holds_after_soft_nms_has_lowered_scores(demo, model, pictures, tmp_path):
    weights = ("--opts", "MODEL.WEIGHTS", model / "model.pth")
    soft = (*weights, "MODEL.VFNET.NMS_TYPE", "soft_nms_linear", "MODEL.VFNET.NMS_THRESH_TEST", 0.1)
    threshold = ("--confidence-threshold", 0.5)
    hard = predict(demo, model, [pictures], tmp_path / "hard", *threshold)
    soft = predict(demo, model, [pictures], tmp_path / "soft", *threshold, *soft)
    scores = [d["score"] for record in soft for d in record["detections"]]
    assert scores and min(scores) >= 0.5
    assert soft != hard


def test_nothing_above_the_threshold_leaves_the_picture_as_it_is(demo, model, pictures, tmp_path):
    records = predict(
        demo, model, [pictures / "a.png"], tmp_path / "out", "--confidence-threshold", 1.0
    )
    assert [record["detections"] for record in records] == [[]]
    drawn, given = (np.asarray(Image.open(p / "a.png")) for p in (tmp_path / "out", pictures))
    assert np.abs(drawn.astype(int) - given).max() <= 1


@pytest.mark.parametrize(
    "more, text",
    [
        (
            ("--opts", "TEST.DETECTIONS_PER_IMAGE", 3),
            "Of 2 pictures or slices there are 3 detections, the most that",
        ),
        (
            ("--classes", 0, "--opts", "TEST.DETECTIONS_PER_IMAGE", 3),
            "for more, --max-detections, or TEST.DETECTIONS_PER_IMAGE",
        ),
        (("--max-detections", 3), ""),
        ((), ""),
    ],
)
def test_as_many_as_the_config_allows_are_told(demo, model, pictures, tmp_path, capsys, more, text):
    weights = ("MODEL.WEIGHTS", model / "model.pth")
    more = (*more, *weights) if "--opts" in more else (*more, "--opts", *weights)
    options = ("--confidence-threshold", 0.1, *more)
    files = [pictures / "a.png", pictures / "b.jpg"]
    predict(demo, model, files, tmp_path / "out", *options)
    out = capsys.readouterr().out
    assert text in out and ("the most that" in out) == bool(text)


def test_names_come_from_the_json_where_the_config_has_none(demo, model, pictures, tmp_path):
    categories = [{"id": 10 * i, "name": name} for i, name in enumerate("xyz", start=1)]
    images = [{"id": 1, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}]
    coco = {"images": images, "annotations": [], "categories": categories}
    (tmp_path / "own.json").write_text(json.dumps(coco))
    # What trained is not there.
    absent = "['demo_gone', 'nowhere/gone.json', 'nowhere']"
    dataset = f"[{absent}, ['demo_own', '{tmp_path / 'own.json'}', '{pictures}']]"
    opts = ("--opts", "MODEL.WEIGHTS", model / "model.pth", "MODEL.VFNET.CLASS_NAMES", "[]")
    opts = (*opts, "DATASETS.COCO_FORMAT", dataset, "DATASETS.TEST", "('demo_own',)")
    opts = (*opts, "DATASETS.TRAIN", "('demo_gone',)")
    records = predict(demo, model, [pictures], tmp_path / "out", *opts)
    found = {(d["class_id"], d["class"]) for record in records for d in record["detections"]}
    assert found and found <= {(0, "x"), (1, "y"), (2, "z")}


def test_classes_and_number_of_detections_are_bounded(demo, model, pictures, tmp_path):
    everything = predict(demo, model, [pictures], tmp_path / "all")
    few = predict(
        *(demo, model, [pictures], tmp_path / "few"),
        *("--classes", "bolt", "2", "--max-detections", 3, "--batch-size", 2),
    )
    for record, kept in zip(everything, few):
        expected = [d for d in record["detections"] if d["class"] != "nut"][:3]
        assert [d["class"] for d in kept["detections"]] == [d["class"] for d in expected]
        scores = [[d["score"] for d in part] for part in (kept["detections"], expected)]
        assert scores[0] == pytest.approx(scores[1], rel=1e-4)


def test_broken_files_are_left_out_and_named_and_the_exit_status_is_1(model, pictures, tmp_path):
    content = (pictures / "b.jpg").read_bytes()
    (pictures / "b.jpg").write_bytes(content[: len(content) // 2])
    (pictures / "c.png").write_text("no picture")
    (pictures / "._a.png").write_text("macOS wrote this")
    Image.fromarray(np.full((HEIGHT, WIDTH), 40000, np.uint16)).save(pictures / "d.png")
    os.mkfifo(pictures / "e.png")
    output = tmp_path / "o"
    weights = ("--weights", model / "model.pth", "--input", pictures, "--output", output)
    result = run_python("demo/demo.py", *weights, cwd=ROOT)
    assert result.returncode == 1
    *_, b, c, d, last = result.stderr.splitlines()
    assert last == "error: 3 files could not be read and were left out, named above"
    assert "b.jpg" in b and "c.png" in c and "mode I;16" in d
    assert "Traceback" not in result.stderr
    assert [r["file"] for r in json.loads((output / "predictions.json").read_text())] == [
        str(pictures / "a.png")
    ]


def test_a_command_that_is_terminated_goes_on_with_resume(demo, model, pictures, tmp_path):
    for number in range(20):
        (pictures / f"{number:03}.png").write_bytes((pictures / "a.png").read_bytes())
    output = tmp_path / "out"
    # Large enough for the signal to come before the end.
    weights = ("MODEL.WEIGHTS", model / "model.pth")
    more = ("--save", "--opts", "INPUT.MIN_SIZE_TEST", 480, *weights)
    command = [sys.executable, "demo/demo.py", *arguments(model, [pictures], output, *more)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        for _ in range(3):
            process.stdout.readline()
        process.terminate()
        assert "detections: " in process.communicate(timeout=120)[0].splitlines()[-1]
    assert process.returncode == 143
    done = len(json.loads((output / "predictions.json").read_text()))
    assert 0 < done < 22
    records = predict(demo, model, [pictures], output, "--resume", *more)
    files = [record["file"] for record in records]
    assert files == [str(path) for path in sorted(pictures.iterdir())]


@pytest.mark.parametrize("node, config", [("RETINANET", RETINANET), ("ROI_HEADS", LIBRA)])
def test_detectors_with_detectron2s_nodes_take_threshold_names_and_views(
    node, config, demo, pictures, tmp_path
):
    (tmp_path / "config.yaml").write_text(
        f"_BASE_: {config}\nMODEL: {{{node}: {{CLASS_NAMES: {NAMES}}}}}\n"
    )
    network = build_model(load_config(str(tmp_path / "config.yaml")))
    torch.save({"model": network.state_dict()}, tmp_path / "model.pth")
    scores = []
    for name, more in {
        "low": ("--confidence-threshold", 0.0),
        "high": ("--confidence-threshold", 0.9),
        "views": ("--confidence-threshold", 0.0, "--opts", "TEST.AUG.ENABLED", "True"),
    }.items():
        if "--opts" in more:
            more = (
                *more,
                "TEST.AUG.MIN_SIZES",
                "(64, 96)",
                "MODEL.WEIGHTS",
                tmp_path / "model.pth",
            )
        records = predict(demo, tmp_path, [pictures], tmp_path / name, *more)
        found = [d for record in records for d in record["detections"]]
        assert {d["class"] for d in found} <= set(NAMES)
        scores.append(len(found))
    assert scores[0] > 0 and scores[1] == 0 and scores[2] > 0
