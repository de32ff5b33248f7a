"""The command `train_net.py`, killed at random moments: it goes on as if it had never stopped."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch

from tests.engine.tiny import CONFIG
from tests.train_net.runs import EVERYTHING_RANDOM

# A checkpoint each iteration and an evaluation each second one, so that kills meet them too.
SETTINGS = (
    *("SOLVER.MAX_ITER", "8", "SOLVER.CHECKPOINT_PERIOD", "1", "TEST.EVAL_PERIOD", "2"),
    *("DATASETS.TEST", "('shapes_val',)", "DATALOADER.NUM_WORKERS", "1"),
    *("SOLVER.EMA.ENABLED", "True", *EVERYTHING_RANDOM),
)
FILES = ("model_final", "model_best", "model_ema")


@pytest.fixture(scope="module")
def start(request):
    """Start the command in a session of its own; it writes to `folder`/out.txt."""

    def begin(folder, *arguments):
        folder.mkdir(exist_ok=True)
        script = request.config.rootpath / "train_net.py"
        words = [script, "--config-file", CONFIG, *arguments, "OUTPUT_DIR", folder, *SETTINGS]
        with open(folder / "out.txt", "ab") as out:
            return subprocess.Popen(
                [sys.executable, *map(str, words)],
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    return begin


def wait_for(process, path):
    """Wait until a file is there, or the process has ended."""
    begin = time.monotonic()
    while not path.exists() and process.poll() is None:
        assert time.monotonic() - begin < 150
        time.sleep(0.01)


def assert_equal(found, expected, name):
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), name
        for key in expected:
            assert_equal(found[key], expected[key], f"{name}.{key}")
    elif isinstance(expected, (list, tuple)):
        for index, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_equal(one, other, f"{name}.{index}")
    elif isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected), name
    else:
        # The only thing that belongs to a run and not to what it computes.
        assert found == expected or name.endswith(".run"), name


@pytest.mark.soak
def test_kills_at_random_moments_change_nothing(start, tmp_path, amount, figure):
    whole = tmp_path / "whole"
    process = start(whole)
    wait_for(process, whole / "metrics.json")
    begin = time.monotonic()
    assert process.wait(150) == 0, (whole / "out.txt").read_text()
    training = time.monotonic() - begin  # with the building of the model
    expected = {name: torch.load(whole / f"{name}.pth", weights_only=True) for name in FILES}

    chance = random.Random(3)
    wanted, kills, runs = amount(ci=2, soak=100), 0, 0
    while kills < wanted:
        folder = tmp_path / f"run{runs}"
        runs += 1
        while True:
            process = start(folder, "--resume", "auto")
            if kills < wanted:
                # Most time goes by before the training begins: the moment counts from there.
                wait_for(process, folder / "metrics.json")
                time.sleep(chance.uniform(0, training))
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                    (folder / "metrics.json").unlink()
                    kills += 1
                    continue
            assert process.wait(150) == 0, (folder / "out.txt").read_text()
            break
        for name in FILES:
            found = torch.load(folder / f"{name}.pth", weights_only=True)
            assert_equal(found, expected[name], name)
        assert not list(folder.glob(".*"))
    figure("kills of a run", kills, kills)
