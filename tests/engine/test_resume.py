"""What `--resume` continues from, and what it says of keys that the checkpoint overrides."""

import json
import logging
import os
import re

import pytest
import torch
from detectron2.engine import HookBase
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

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


def rows_of(folder):
    return [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]


def test_what_a_killed_run_wrote_beyond_its_checkpoint_is_not_there_twice(tmp_path):
    train_on(tiny_config(tmp_path, *AT_001), *BATCHES[:2])
    before = (tmp_path / "metrics.json").read_text()
    # The evaluation of the checkpoint, iterations after it and a line that was cut.
    evaluated = '{"bbox/AP": 5.0, "iteration": 2}\n'
    beyond = '{"iteration": 2, "total_loss": 9.0}\n{"bbox/AP": 9.0, "iteration": 3}\n'
    with open(tmp_path / "metrics.json", "a") as file:
        file.write(f'{evaluated}{beyond}no metrics\n{{"iteration": 2, "total')
    with SummaryWriter(str(tmp_path)) as events:
        events.add_scalar("total_loss", 9.0, 3)
    continue_run(tmp_path)
    text = (tmp_path / "metrics.json").read_text()
    kept = f'{before}{evaluated}no metrics\n{{"iteration": 2, "total\n'
    assert text.startswith(kept)
    (row,) = map(json.loads, text.removeprefix(kept).splitlines())
    assert row["iteration"] == 2 and row["total_loss"] < 9
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in events.Scalars("total_loss")] == [1, 2]


class Scored(GivenBatches):
    """Has a score, of whichever weights."""

    batches = BATCHES

    @classmethod
    def test(cls, cfg, model, evaluators=None):
        """No detector looks at pictures."""
        return {"bbox": {"AP": 50.0}}


class Interrupt(HookBase):
    """Ends a run after an iteration, counted from 0."""

    def __init__(self, after):
        self.after = after

    def after_step(self):
        """End it."""
        if self.trainer.iter == self.after:
            raise KeyboardInterrupt


def test_an_evaluation_that_is_caught_up_with_again_is_there_once(tmp_path):
    often = ("SOLVER.CHECKPOINT_PERIOD", "2", "TEST.EVAL_PERIOD", "2", *AT_001)
    often += ("DATASETS.TEST", "('shapes_val',)")
    for _ in range(3):
        trainer = Scored(tiny_config(tmp_path, "SOLVER.MAX_ITER", "9", *often))
        trainer.resume_or_load(resume=True)
        trainer.register_hooks([Interrupt(after=2)])
        with pytest.raises(KeyboardInterrupt):
            trainer.train()
    scored = [row["iteration"] for row in rows_of(tmp_path) if "bbox/AP" in row]
    assert scored == [1, 2]


def test_a_linked_file_stays_a_link_for_all_who_could_read_it(tmp_path):
    train_on(tiny_config(tmp_path, *AT_001), *BATCHES[:2])
    target, link = tmp_path / "elsewhere.json", tmp_path / "metrics.json"
    link.rename(target)
    link.symlink_to(target)
    with open(target, "a") as file:
        file.write('{"iteration": 2, "total_loss": 9.0}\n')
    target.chmod(0o640)
    continue_run(tmp_path)
    assert link.is_symlink() and os.stat(link).st_mode & 0o777 == 0o640
    assert [row["total_loss"] for row in rows_of(tmp_path) if row["iteration"] == 2] != [9.0]
    assert [row["iteration"] for row in rows_of(tmp_path)].count(2) == 1


def test_numbers_stay_where_nothing_is_done_again(tmp_path):
    train_on(tiny_config(tmp_path, *AT_001), *BATCHES[:2])
    row = '{"iteration": 7, "total_loss": 9.0}\n'
    with open(tmp_path / "metrics.json", "a") as file:
        file.write(row)
    train_on(tiny_config(tmp_path, *AT_001), *BATCHES[:2])  # into the same folder, from the start
    trainer = GivenBatches(tiny_config(tmp_path, "SOLVER.MAX_ITER", "2", *AT_001))
    trainer.resume_or_load(resume=True)
    trainer.train()  # finished
    assert json.loads(row) in rows_of(tmp_path)


def test_an_evaluation_alone_has_the_number_of_the_one_after_the_last_iteration(tmp_path):
    for max_iter in ("2", "2", "1"):
        trainer = Scored(tiny_config(tmp_path, "SOLVER.MAX_ITER", max_iter, *AT_001))
        trainer.resume_or_load(resume=True)
        trainer.train()
    scored = [row["iteration"] for row in rows_of(tmp_path) if "bbox/AP" in row]
    assert scored == [2]
