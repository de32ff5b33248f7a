"""What `--resume` continues from, and what it says of keys that the checkpoint overrides."""

import json
import logging
import re

import pytest
import torch

from vfnet.engine import checkpoint_to_continue
from vfnet.errors import UserError

from .tiny import GivenBatches, picture, tiny_config, train_on


def test_nothing_to_continue(tmp_path):
    assert checkpoint_to_continue(str(tmp_path), required=False) == ""
    with pytest.raises(UserError, match="--resume auto"):
        checkpoint_to_continue(str(tmp_path), required=True)


BATCHES = [[picture(seed)] for seed in (1, 2, 3)]
AT_001 = ("SOLVER.BASE_LR", "0.01", "SOLVER.WARMUP_ITERS", "0", "SEED", "1")


def continue_run(folder, *overrides):
    """Continue a run for one more iteration; return its trainer and the rate it was stepped at."""

    class Given(GivenBatches):
        batches = BATCHES

    trainer = Given(tiny_config(folder, "SOLVER.MAX_ITER", "3", *AT_001, *overrides))
    trainer.resume_or_load(resume=True)
    trainer.train()
    last = json.loads((folder / "metrics.json").read_text().splitlines()[-1])
    assert last["iteration"] == 2
    return trainer, last["lr"]


@pytest.mark.parametrize(
    "overrides, expected",
    [
        (("SOLVER.BASE_LR", "0.003"), ["SOLVER.BASE_LR is 0.003 in the config, but .*'s 0.01;"]),
        (("SOLVER.MOMENTUM", "0.5"), ["SOLVER.MOMENTUM is 0.5 in the config, but .*'s 0.9;"]),
        (("SOLVER.BIAS_LR_FACTOR", "3.0"), ["SOLVER.BIAS_LR_FACTOR is 3.0 .*'s 2.0;"]),
        (
            ("SOLVER.WEIGHT_DECAY", "0.5", "SOLVER.WEIGHT_DECAY_BIAS", "0.25"),
            [
                "SOLVER.WEIGHT_DECAY is 0.5 .*'s 0.0001;",
                "SOLVER.WEIGHT_DECAY_BIAS is 0.25 .*'s 0.0;",
            ],
        ),
        (("SEED", "7"), ["SEED is 7 in the config, but .*'s 1;"]),
        (("SOLVER.GAMMA", "0.5", "SEED", "-1"), []),
    ],
)
def test_a_key_that_the_checkpoint_overrides_is_warned_of(tmp_path, caplog, overrides, expected):
    train_on(tiny_config(tmp_path, *AT_001), *BATCHES[:2])
    with caplog.at_level(logging.WARNING):
        trainer, rate = continue_run(tmp_path, *overrides)
    lines = [r.message for r in caplog.records if "--resume goes on with" in r.message]
    assert len(lines) == len(expected)
    for line, pattern in zip(lines, expected):
        assert re.match(pattern, line), line
    # What the warning says is what was used.
    assert rate == pytest.approx(0.01)
    assert {group["momentum"] for group in trainer.optimizer.param_groups} == {0.9}
    assert [g["initial_lr"] for g in trainer.optimizer.param_groups] == pytest.approx(
        [0.01, 0.01, 0.02]
    )
    assert [g["weight_decay"] for g in trainer.optimizer.param_groups] == [1e-4, 1e-4, 0.0]


def test_a_checkpoint_without_names_of_groups_is_continued(tmp_path, caplog):
    train_on(tiny_config(tmp_path, *AT_001), *BATCHES[:2])
    state = torch.load(tmp_path / "model_final.pth", weights_only=True)
    for group in state["trainer"]["_trainer"]["optimizer"]["param_groups"]:
        del group["name"]
    torch.save(state, tmp_path / "model_final.pth")
    with caplog.at_level(logging.WARNING):
        _, rate = continue_run(tmp_path, "SOLVER.BASE_LR", "0.003")
    assert rate == pytest.approx(0.01)
    assert "SOLVER.BASE_LR is 0.003 in the config" in caplog.text
