"""tools/oracle.py: the table, the json, and what it refuses."""

import importlib.util
import json
import math
import sys

import pytest
import torch
from detectron2.modeling import build_model

from tests.command import run_python
from tests.engine.tiny import CONFIG, tiny_config
from tests.engine.tiny_retinanet import CONFIG as RETINANET
from tests.engine.tiny_retinanet import retinanet_config
from vfnet.errors import UserError
from vfnet.evaluation.oracle import KINDS, oracle_detections


@pytest.fixture
def tool(repository):
    spec = importlib.util.spec_from_file_location("oracle", repository / "tools" / "oracle.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(tool, monkeypatch):
    """Call the tool's main() with a command line."""

    def call(*more):
        command = ["oracle", "--config-file", CONFIG, *more]
        monkeypatch.setattr(sys, "argv", [str(part) for part in command])
        tool.main()

    return call


def test_table_has_a_row_for_each_kind_and_the_published_numbers(tool):
    values = dict(zip(KINDS, range(6)))
    scores = {kind: {"AP": v + 0.04, "AP50": 50 + v, "AP75": 20.06} for kind, v in values.items()}
    header, _, *rows = tool.table(scores).splitlines()
    assert header.endswith("| published for FCOS+ATSS R-50 |")
    assert rows == [
        "| nothing replaced | 0.0 | 50.0 | 20.1 | 38.5 |",
        "| gt box | 1.0 | 51.0 | 20.1 | 56.1 |",
        "| gt class | 2.0 | 52.0 | 20.1 | 43.1 |",
        "| gt class, other classes 0 | 3.0 | 53.0 | 20.1 |  |",
        "| gt IoU | 4.0 | 54.0 | 20.1 | 74.7 |",
        "| gt IoU, other classes 0 | 5.0 | 55.0 | 20.1 |  |",
    ]


def test_command_prints_the_table_and_writes_the_same_numbers(tool, repository, tmp_path):
    torch.manual_seed(0)
    model = build_model(tiny_config(tmp_path))
    torch.nn.init.constant_(model.head.box_pred.bias, math.log(0.5))  # boxes as large as anchors
    torch.save({"model": model.state_dict()}, tmp_path / "model.pth")
    output = tmp_path / "new" / "table.json"
    command = [
        *("tools/oracle.py", "--config-file", CONFIG, "--num-images", "3"),
        *("--output", output, "--opts", "MODEL.WEIGHTS", tmp_path / "model.pth"),
        *("DATASETS.TEST", "('shapes_val',)"),
    ]
    done = run_python(*command, cwd=repository)
    assert done.returncode == 0, done.stderr
    content = json.loads(output.read_text())
    assert (content["dataset"], content["num_images"]) == ("shapes_val", 3)
    assert done.stdout.startswith(
        f"3 images of shapes_val, {tmp_path / 'model.pth'}\n\n| row | AP |"
    )
    rows = {
        kind: {name: row[name] for name in ("AP", "AP50", "AP75")}
        for kind, row in content["rows"].items()
    }
    assert list(rows) == list(KINDS)
    assert tool.table(rows) in done.stdout
    # A random model scores everything below the threshold: what is replaced is all that is found.
    assert rows["plain"]["AP"] == rows["gt_bbox"]["AP"] == 0
    assert rows["gt_cls_iou"] == rows["gt_cls_iou_only"]
    assert rows["gt_cls_iou"]["AP50"] > 0
    published = [row["published_fcos_atss_r50"] for row in content["rows"].values()]
    assert published == [38.5, 56.1, 43.1, None, 74.7, None]
    assert [path.name for path in output.parent.iterdir()] == ["table.json"]


@pytest.mark.parametrize(
    "more, message",
    [
        (("--num-images", 0), "at least 1, got 0"),
        ((), r"DATASETS\.TEST is empty"),
        (("--opts", "DATASETS.TEST", "('no_such',)"), '"no_such" is not a registered'),
        (("--opts", "DATASETS.TEST", "('shapes_val',)"), r"MODEL\.WEIGHTS is empty"),
    ],
)
def test_bad_arguments_are_named(run, more, message):
    with pytest.raises(UserError, match=message):
        run(*more)


def test_a_detector_without_locations_is_refused(tool, monkeypatch, tmp_path):
    cfg = retinanet_config("")
    model = build_model(cfg)
    torch.save({"model": model.state_dict()}, tmp_path / "model.pth")
    command = ["oracle", "--config-file", RETINANET, "--num-images", "1", "--opts"]
    command += ["MODEL.WEIGHTS", tmp_path / "model.pth", "DATASETS.TEST", "('shapes_val',)"]
    monkeypatch.setattr(sys, "argv", [str(part) for part in command])
    message = "locations predict boxes.*got QualityRetinaNet"
    with pytest.raises(UserError, match=message):
        tool.main()
    with pytest.raises(UserError, match=message):
        oracle_detections(model.eval(), [])
