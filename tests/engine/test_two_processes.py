"""Two CPU processes over gloo: the same step as one process, and no hang."""

import json
from pathlib import Path

import pytest
import torch

from .command import run_python
from .tiny import LARGE_STEP, picture, tiny_config, train_on


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where two_processes.py, run once for all tests, has written what it found."""
    folder = tmp_path_factory.mktemp("two_processes")
    done = run_python(Path(__file__).with_name("two_processes.py"), folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(params=[0, 1], ids=["rank 0", "rank 1"])
def found(folder, request):
    return json.loads((folder / f"found{request.param}.json").read_text())


def test_one_picture_each_is_the_step_of_one_process_with_both(folder, tmp_path):
    cfg = tiny_config(tmp_path, *LARGE_STEP)
    together = train_on(cfg, [picture(1), picture(2)]).model.state_dict()
    alone = train_on(cfg, [picture(1)]).model.state_dict()
    two = torch.load(folder / "one_each.pth", weights_only=True)
    assert two.keys() == together.keys()
    for name, value in together.items():
        assert (two[name] - value).abs().max() <= 1e-5, name
    # The step is large enough to tell: with one of the two pictures it would have been another.
    assert max((two[name] - value).abs().max() for name, value in alone.items()) > 1e-3


@pytest.mark.parametrize("case", ["none on one", "none on both"])
def test_processes_without_boxes_give_every_parameter_a_gradient(found, case):
    assert found[case] == []


def test_a_bad_loss_of_one_process_stops_both_and_names_its_picture(found):
    assert "iteration 4: loss_a = nan (process 1; images: picture3.jpg)." in found["bad loss"]
    assert "loss_b" not in found["bad loss"]


def test_a_bad_picture_of_one_process_stops_the_training_of_both(found):
    message = found["bad picture"]
    assert "iteration 0" in message and "loss_cls = nan" in message
    assert "(process 1; images: picture3.jpg)" in message
    assert "process 0" not in message  # whose picture was good


def test_both_processes_score_with_the_statistics_that_are_saved(found):
    moved, scored = found["statistics"]
    assert moved > 0
    assert scored == 0
