"""benchmarks/precision.py: differences at the same locations."""

from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

from benchmarks import precision
from vfnet.engine import load_config
from vfnet.errors import UserError

TINY = str(Path(__file__).parents[1] / "engine" / "tiny.yaml")


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build_model(load_config(TINY, ["MODEL.DEVICE", "cpu"])).eval()


def test_float32_does_not_differ_from_itself_and_bfloat16_does(model):
    batch = [{"image": torch.randint(256, (3, 64, 96)).byte()}]
    box, score = precision.differences(model, batch, "float32", 0.0)
    assert box.tolist() == score.tolist() == [0.0] * sum((8 * 12, 4 * 6, 2 * 3, 1 * 2, 1 * 1))
    box, score = precision.differences(model, batch, "bfloat16", 0.0)
    assert 0 < box.max() < 5 and 0 < score.max() < 0.01
    box, _ = precision.differences(model, batch, "bfloat16", 1.0)
    assert len(box) == 0


def test_the_script_prints_its_table(model, tmp_path, capsys):
    weights = tmp_path / "model.pth"
    torch.save({"model": model.state_dict()}, weights)
    options = ["MODEL.WEIGHTS", str(weights), "MODEL.VFNET.SCORE_THRESH_TEST", "0.0"]
    options += ["DATASETS.TEST", "('shapes_val',)"]
    precision.main(["--config-file", TINY, "--pictures", "1", "--opts", *options])
    printed = capsys.readouterr().out
    assert "locations, bfloat16 against float32" in printed
    (row,) = (line for line in printed.splitlines() if line.startswith("| box"))
    median, almost_all, largest = (float(cell) for cell in row.split("|")[2:5])
    assert 0 < median <= almost_all <= largest


def test_random_weights_and_no_test_set_are_refused():
    with pytest.raises(UserError, match="give --opts MODEL.WEIGHTS"):
        precision.main(["--config-file", TINY])
    with pytest.raises(UserError, match="DATASETS.TEST is empty"):
        precision.main(["--config-file", TINY, "--opts", "MODEL.WEIGHTS", "some.pth"])
