"""Averages on two CPU processes over gloo: the same on both, statistics of both's pictures."""

from pathlib import Path

import pytest
import torch
from torch.nn.functional import conv2d

from tests.command import run_python
from tests.engine.tiny import picture, tiny_config, train_on

STEM = "backbone.bottom_up.stem.conv1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("averaging")
    root = Path(__file__).parents[3]
    done = run_python("-m", "tests.engine.hooks.averaging_processes", folder, cwd=root)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def found(folder):
    return [torch.load(folder / f"found{rank}.pt", weights_only=True) for rank in (0, 1)]


def different(one, other):
    return [name for name in {*one, *other} if not torch.equal(one[name], other[name])]


def test_both_processes_and_the_file_have_the_same_average(found, folder):
    first, second = (ours["swa"] for ours in found)
    assert different(first, second) == []
    file = torch.load(folder / "model_swa.pth", weights_only=True)["model"]
    assert different(first, file) == []
    raw = torch.load(folder / "model_final.pth", weights_only=True)["model"]
    assert different(first, raw) != []


def test_the_moving_average_has_the_same_weights_on_both_and_the_file_the_firsts(found, folder):
    first, second = (ours["ema"] for ours in found)
    names = different(first, second)
    assert all(name.endswith(("running_mean", "running_var")) for name in names)
    file = torch.load(folder / "model_ema.pth", weights_only=True)["model"]
    assert different(first, file) == []


def test_statistics_are_those_of_the_pictures_of_both(found, tmp_path):
    average = found[0]["swa"]
    model = train_on(tiny_config(tmp_path), [picture(1)]).model
    seen = []
    for seed in (1, 2):
        image = model.preprocess_image([picture(seed)]).tensor
        out = conv2d(image, average[f"{STEM}.weight"], stride=2, padding=3)
        seen.append(out.transpose(0, 1).flatten(1))
    seen = torch.cat(seen, dim=1)
    mean, variance = average[f"{STEM}.norm.running_mean"], average[f"{STEM}.norm.running_var"]
    torch.testing.assert_close(mean, seen.mean(1), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(variance, seen.var(1, unbiased=False), rtol=1e-3, atol=1e-4)
