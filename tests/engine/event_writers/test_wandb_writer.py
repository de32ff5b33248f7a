"""Weights & Biases, offline: what is written there is what the storage holds."""

import json
import logging

import pytest

from tests.extras import needs

pytestmark = needs("wandb")

import wandb  # noqa: E402

from tests.engine.tiny import GivenBatches, picture, tiny_config  # noqa: E402
from vfnet.engine.event_writers.wandb_writer import ID_FILE  # noqa: E402

BATCH = [picture(1), picture(2)]
ON = ("WANDB.ENABLED", "True", "WANDB.PROJECT", "cells", "SEED", "1", "VIS_PERIOD", "2")


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")


@pytest.fixture
def logged(monkeypatch):
    """What is logged to each run, in turn: lists of dicts."""
    runs, init = [], wandb.init

    def watched_init(**arguments):
        run = init(**arguments)
        rows, log = [], run.log
        runs.append((run, rows))
        monkeypatch.setattr(run, "log", lambda row: (rows.append(row), log(row)))
        return run

    monkeypatch.setattr(wandb, "init", watched_init)
    return runs


def train(folder, max_iter, *overrides, resume=False):
    class Given(GivenBatches):
        batches = [BATCH] * max_iter

    cfg = tiny_config(folder, *ON, "SOLVER.MAX_ITER", str(max_iter), *overrides)
    trainer = Given(cfg)
    trainer.resume_or_load(resume=resume)
    trainer.train()
    return trainer


def test_scalars_pictures_and_config_reach_it_and_a_resumed_run_goes_on(tmp_path, logged):
    train(tmp_path, 3)
    ((run, rows),) = logged
    run_id = (tmp_path / ID_FILE).read_text().strip()
    assert (run.id, run.project) == (run_id, "cells")
    assert run.config["SOLVER"]["MAX_ITER"] == 3

    written = {}
    for line in (tmp_path / "metrics.json").read_text().splitlines():
        values = json.loads(line)
        written.setdefault(values.pop("iteration"), {}).update(values)
    scalars = {
        row["iteration"]: {k: v for k, v in row.items() if isinstance(v, float)} for row in rows
    }
    assert {i: row for i, row in scalars.items() if row} == written
    assert "total_loss" in written[2]
    pictures = {row["iteration"]: row["training/1"] for row in rows if "training/1" in row}
    assert list(pictures) == [0, 2]
    assert pictures[0].image.size == (2 * 128 + 4, 96)
    # TensorBoard, which empties the storage, has them too.
    assert list(tmp_path.glob("events.out.tfevents.*"))
    (file,) = tmp_path.glob(f"wandb/offline-run-*-{run_id}/*.wandb")
    assert file.stat().st_size > 1000

    train(tmp_path, 4, resume=True)
    again, rows = logged[1]
    assert again.id == run_id
    assert rows[-1]["iteration"] == 3
    # Another run in the same folder, not resumed, is another one there.
    train(tmp_path, 1)
    assert logged[2][0].id != run_id


@pytest.mark.parametrize("broken", ["init", "log"])
def test_a_failure_is_one_warning_and_the_training_goes_on(tmp_path, monkeypatch, caplog, broken):
    def fail(*args, **kwargs):
        raise wandb.errors.CommError("no network")

    monkeypatch.setattr(*((wandb, "init") if broken == "init" else (wandb.Run, "log")), fail)
    with caplog.at_level(logging.WARNING):
        train(tmp_path, 2)  # written to twice
    warnings = [r.getMessage() for r in caplog.records if "Weights & Biases" in r.getMessage()]
    assert len(warnings) == 1 and "CommError: no network" in warnings[0]
    assert (tmp_path / "model_final.pth").is_file()
