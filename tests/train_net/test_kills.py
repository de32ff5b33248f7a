"""The command `train_net.py`, killed at random moments: it goes on as if it had never stopped."""

import random
import time

import pytest
import torch
from detectron2.modeling import build_model

from tests.engine.tiny import tiny_config
from tests.train_net.killed import running
from tests.train_net.runs import EVERYTHING_RANDOM, assert_equal

# A checkpoint each iteration and an evaluation each second one, so that kills meet them too.
OFTEN = ("SOLVER.MAX_ITER", "4", "SOLVER.CHECKPOINT_PERIOD", "1", "TEST.EVAL_PERIOD", "2")
SWA = ("SOLVER.SWA.ENABLED", "True", "SOLVER.SWA.CYCLES", "2", "TEST.PRECISE_BN.NUM_ITER", "2")
RUNS = {
    "EMA, two loader workers": ("SOLVER.EMA.ENABLED", "True", "DATALOADER.NUM_WORKERS", "2"),
    "SWA": SWA,
}


def checkpoints(folder):
    """All of them by name, the averages and the best one too."""
    return {path.name: torch.load(path, weights_only=True) for path in folder.glob("*.pth")}


@pytest.mark.parametrize("kind", RUNS)
@pytest.mark.soak
def test_kills_at_random_moments_change_nothing(kind, tmp_path, make_coco, amount, figure):
    weights = tmp_path / "start.pth"
    torch.save({"model": build_model(tiny_config(tmp_path / "start")).state_dict()}, weights)
    file, _ = make_coco(categories=((1, "a"), (2, "b"), (3, "c")))
    data = [["one", str(file), str(file.parent)], ["two", str(file), str(file.parent)]]
    names = ("DATASETS.TRAIN", ["one"], "DATASETS.TEST", ["two"], "DATASETS.COCO_FORMAT", data)
    words = ("MODEL.WEIGHTS", weights, *names, *OFTEN, *EVERYTHING_RANDOM, *RUNS[kind])

    begin = time.monotonic()
    with running(tmp_path / "whole", *words) as (process, out):
        process.join(150)
        assert process.exitcode == 0, out.read_text()
    duration = time.monotonic() - begin
    expected = checkpoints(tmp_path / "whole")

    chance = random.Random(kind)
    wanted, kills, number = amount(1, 50), 0, 0
    while kills < wanted:
        folder = tmp_path / f"run{number}"
        number += 1
        killed = True
        while killed:
            with running(folder, "--resume", "auto", *words) as (process, out):
                process.join(chance.uniform(0, duration) if kills < wanted else 150)
                killed = process.is_alive()
                assert kills < wanted or not killed, out.read_text()
            kills += killed
        assert process.exitcode == 0, out.read_text()
        found = checkpoints(folder)
        assert found.keys() == expected.keys()
        for name in expected:
            assert_equal(found[name], expected[name], name)
        assert not list(folder.glob(".*"))
    figure(f"kills of a run, {kind}", kills, kills)
