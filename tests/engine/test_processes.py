"""One, two and four CPU processes over gloo: the same steps on the same pictures, and no hang."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from tests.command import run_python
from vfnet.engine import Trainer

from .tiny import tiny_config
from .tiny_family import CONFIGS


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    """Where processes.py, run once for each number of processes, has written what it found."""
    folders = {}

    def folder_of(processes):
        if processes not in folders:
            folder = tmp_path_factory.mktemp("processes")
            root = Path(__file__).parents[2]
            done = run_python("-m", "tests.engine.processes", folder, processes, cwd=root)
            assert done.returncode == 0, done.stdout + done.stderr
            folders[processes] = folder
        return folders[processes]

    return folder_of


@pytest.fixture(
    params=[2, pytest.param(4, marks=pytest.mark.only_soak)],
    ids="{} processes".format,
    scope="module",
)
def folder(folder_of, request):
    return folder_of(request.param)


@pytest.fixture
def found(folder):
    """What each process found."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("found*.json"))]


@pytest.fixture
def start(tmp_path):
    """The weights that processes.py starts from, in float64 as there."""
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield Trainer(tiny_config(tmp_path)).model.state_dict()
    torch.set_default_dtype(torch.float32)


# Losses, boxes and star features are float32 in any model, and so are the normalisers, sums over
# the processes. What of it depends on the shares are sums of a few hundred numbers, whose order of
# adding moves them by a part of some 2^-24 (half of float32's epsilon) a rounding.
ROUNDING = 128 * 2**-24


def test_steps_on_shares_of_a_batch_are_those_of_one_process_with_all(folder, folder_of, start):
    check_same_steps(folder / "weights.pth", folder_of(1) / "weights.pth", start)


def test_processes_that_accumulate_take_the_steps_of_one_with_all(folder_of, start):
    check_same_steps(folder_of(2) / "parts.pth", folder_of(1) / "weights.pth", start)


def check_same_steps(shared_file, alone_file, start):
    shared, alone = (torch.load(file, weights_only=True) for file in (shared_file, alone_file))
    assert shared.keys() == alone.keys()
    moved = {name: (start[name] - value).abs().max() for name, value in alone.items()}
    for name, value in alone.items():
        # Beside the float32 share of each step, float64's own rounding of the weight.
        bound = ROUNDING * moved[name] + 1e-15 * value.abs().max()
        assert (shared[name] - value).abs().max() <= bound, name
    assert max(moved.values()) > 1e-2


def test_the_losses_written_are_those_of_the_whole_batch(folder, folder_of):
    alone, shared = (
        json.loads((path / "losses.json").read_text()) for path in (folder_of(1), folder)
    )
    assert shared.keys() == alone.keys()
    for name, values in alone.items():
        assert len(values) == 3
        assert min(abs(one - other) for one, other in pairwise(values)) > 1e-3
        assert shared[name] == pytest.approx(values, rel=ROUNDING), name


def test_validation_losses_are_those_of_one_process(folder, folder_of):
    """Of shares that differ: two pictures and one, or one and none."""
    alone, shared = (
        json.loads((path / "validation.json").read_text()) for path in (folder_of(1), folder)
    )
    assert len(alone) == 2
    for one, several in zip(alone, shared):
        assert one["total_loss"] > 0
        assert several == pytest.approx(one, rel=1e-6)


@pytest.mark.parametrize("case", ["none on one", "none on all"])
def test_processes_without_boxes_give_every_parameter_a_gradient(found, case):
    assert [each[case] for each in found] == [[]] * len(found)


def test_no_detector_waits_for_a_process_without_boxes(folder_of):
    """Two processes, of which one has none: no hang, and a gradient for every parameter."""
    for path in sorted(folder_of(2).glob("found*.json")):
        assert json.loads(path.read_text())["family"] == {name: [] for name in CONFIGS}


def test_a_bad_loss_of_one_process_stops_all_and_names_its_picture(found):
    for each in found:
        assert "iteration 4: loss_a = nan (process 1; images: picture3.jpg)." in each["bad loss"]
        assert "loss_b" not in each["bad loss"]


def test_a_bad_picture_of_one_process_stops_the_training_of_all(found):
    for each in found:
        message = each["bad picture"]
        assert "iteration 0" in message and "loss_cls = nan" in message
        assert "(process 1; images: picture3.jpg)" in message
        assert "process 0" not in message  # whose picture was good


def test_all_processes_stop_early_together(found):
    # The best is that after three iterations.
    assert [each["early"] for each in found] == [5] * len(found)


def test_all_processes_score_with_the_statistics_that_are_saved(found):
    for each in found:
        moved, scored = each["statistics"]
        assert moved > 0
        assert scored == 0
