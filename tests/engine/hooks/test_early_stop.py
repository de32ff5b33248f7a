"""SOLVER.EARLY_STOP: when a run ends, how, and how it goes on."""

import json
import logging
import shutil

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from tests.engine.tiny import GivenBatches, picture, tiny_config
from vfnet.data.datasets.shapes import load_shapes
from vfnet.engine import Trainer, check_run, config_warnings
from vfnet.engine.hooks.early_stop import Progress, check_early_stop, lower_is_better, progress
from vfnet.errors import UserError

PATIENCE = "SOLVER.EARLY_STOP.PATIENCE"
EARLY = ("SOLVER.EARLY_STOP.ENABLED", "True", PATIENCE, "2")
EACH = ("SOLVER.CHECKPOINT_PERIOD", "1", "TEST.EVAL_PERIOD", "1", "SEED", "1")
ONE_SET = ("DATASETS.TEST", "('shapes_val',)")
EMA = ("SOLVER.EMA.ENABLED", "True", "SOLVER.EMA.DECAY", "0.5")
# After each iteration: the best is that after two, and after five it is surpassed.
APS = (10.0, 30.0, 20.0, 25.0, 31.0, 5.0, 6.0)


@pytest.mark.parametrize(
    "scores, lower, expected",
    [
        ({2: 10.0}, False, Progress(2, 0)),
        ({2: 10.0, 4: 20.0}, False, Progress(4, 0)),
        ({2: 10.0, 4: 20.0}, True, Progress(2, 1)),
        ({2: 30.0, 4: 20.0, 6: 25.0}, False, Progress(2, 2)),
        ({2: 30.0, 4: 30.0}, False, Progress(2, 1)),  # no better is no improvement
        ({2: 3.0, 4: 1.0, 6: 1.0, 8: 2.0}, True, Progress(4, 2)),
        ({2: None, 4: 1.0, 6: None}, False, Progress(4, 1)),
        ({2: 0.0, 4: None, 6: None}, False, Progress(2, 2)),
        ({4: 20.0, 2: 10.0}, False, Progress(4, 0)),  # in any order
    ],
)
def test_progress_is_the_first_best_and_what_came_since(scores, lower, expected):
    assert progress(scores, lower) == expected


@pytest.mark.parametrize(
    "metric, lower",
    [
        ("bbox/AP", False),
        ("vfnet/AP-total_loss", False),
        ("validation/bbox/AP", False),  # of a data set of that name
        ("validation/total_loss", True),
        ("ema/cells/validation/loss_cls", True),
    ],
)
def test_less_of_a_loss_is_better(metric, lower):
    assert lower_is_better(metric) is lower


@pytest.fixture
def scored(monkeypatch):
    """A function: the weights after n iterations have the n-th of these APs; returns the calls."""

    def give(raw=APS, average=None):
        calls = []

        def test(self, cfg, model):
            is_raw, done = model is self.model, self.scheduler.last_epoch
            calls.append((done, is_raw))
            ap = (raw if is_raw else average)[done - 1]
            return {"bbox": {} if ap is None else {"AP": ap}, "vfnet": {"num_gt": 7.0}}

        monkeypatch.setattr(Trainer, "test", test)
        return calls

    return give


@pytest.fixture
def lines(caplog):
    """A function: what the end of a run has been logged as."""
    caplog.set_level(logging.INFO, "vfnet.engine.hooks.early_stop")
    return lambda: [r.message for r in caplog.records if r.message.startswith("early stop")]


def run(folder, *overrides, resume=False, max_iter=7):
    """Train on one picture a step, or go on from the checkpoint named last; return the trainer."""

    class Given(GivenBatches):
        batches = [[picture(seed)] for seed in range(1, 8)]

    torch.manual_seed(0)
    cfg = tiny_config(folder, "SOLVER.MAX_ITER", str(max_iter), *EACH, *ONE_SET, *overrides)
    trainer = Given(cfg)
    trainer.resume_or_load(resume=resume)
    trainer.train()
    return trainer


def weights(folder, name="model_final"):
    return torch.load(folder / f"{name}.pth", weights_only=True)["model"]


def assert_same(one, other):
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_a_run_ends_as_a_finished_one(tmp_path, scored, lines):
    calls = scored()
    assert run(tmp_path, *EARLY).iter == 4
    assert calls == [(n, True) for n in (1, 2, 3, 4)]  # no weights twice
    assert_same(weights(tmp_path), weights(tmp_path, "model_0000003"))
    assert_same(weights(tmp_path, "model_best"), weights(tmp_path, "model_0000001"))
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"
    assert not (tmp_path / "model_0000004.pth").exists()
    rows = [json.loads(line) for line in (tmp_path / "metrics.json").open()]
    assert rows[-1]["bbox/AP"] == 25.0
    assert lines() == [
        "early stop after 4 iterations: bbox/AP has not improved for 2 evaluations, and was best "
        "after 2 iterations, 30. To go on, give --resume with SOLVER.EARLY_STOP.PATIENCE above 2, "
        "or with SOLVER.EARLY_STOP.ENABLED False"
    ]


def test_it_is_not_trained_on_unless_it_is_asked_for(tmp_path, scored, lines):
    whole = tmp_path / "whole"
    scored()
    run(whole, *EARLY, PATIENCE, "3")  # surpassed after five, never exhausted
    stopped = tmp_path / "stopped"
    run(stopped, *EARLY)
    before = weights(stopped)
    calls = scored()
    assert run(stopped, *EARLY, resume=True).iter == 4
    assert calls == [(4, True)]
    assert_same(weights(stopped), before)
    assert len(lines()) == 2 and lines()[0] == lines()[1]
    shutil.copytree(stopped, tmp_path / "copy")
    for folder, settings in ((stopped, (*EARLY, PATIENCE, "3")), (tmp_path / "copy", ())):
        assert run(folder, *settings, resume=True).iter == 7
        assert_same(weights(folder), weights(whole))


@pytest.mark.parametrize("killed", [1, 2, 3, 4])
def test_a_run_killed_around_an_evaluation_ends_alike(tmp_path, scored, killed):
    scored()
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(whole, *EARLY)
    parts.mkdir()
    # Written before the evaluation of the same iteration.
    shutil.copy(whole / f"model_{killed - 1:07d}.pth", parts)
    (parts / "last_checkpoint").write_text(f"model_{killed - 1:07d}.pth")
    assert run(parts, *EARLY, resume=True).iter == 4
    states = [torch.load(f / "model_final.pth", weights_only=True) for f in (whole, parts)]
    assert_same(states[0]["model"], states[1]["model"])
    assert states[0]["iteration"] == states[1]["iteration"] == 3
    trainers = [state["trainer"] for state in states]
    assert trainers[0]["iteration"] == trainers[1]["iteration"] == 3
    early = [trainer["hooks"]["EarlyStop"] for trainer in trainers]
    assert early[0] == early[1] == {"metric": "bbox/AP", "scores": dict(zip((1, 2, 3, 4), APS))}


def test_patience_that_was_lowered_ends_it_at_once(tmp_path, scored):
    scored()
    run(tmp_path, *EARLY, max_iter=3)
    assert run(tmp_path, *EARLY, PATIENCE, "1", resume=True).iter == 3
    assert torch.load(tmp_path / "model_final.pth", weights_only=True)["iteration"] == 2


def test_scores_of_another_metric_do_not_count(tmp_path, scored):
    scored()
    run(tmp_path, *EARLY)
    trainer = run(tmp_path, *EARLY, "SOLVER.EARLY_STOP.METRIC", "vfnet/num_gt", resume=True)
    assert trainer.iter == 6  # 7.0 after 4, 5 and 6


def test_with_an_average_its_score_decides(tmp_path, scored, lines):
    calls = scored(raw=range(1, 8), average=(50.0, 60.0, 59.0, 58.0, 70.0, 0.0, 0.0))
    assert run(tmp_path, *EARLY, *EMA).iter == 4
    assert calls == [(n, is_raw) for n in (1, 2, 3, 4) for is_raw in (True, False)]
    (line,) = lines()
    assert "ema/bbox/AP has not improved for 2 evaluations, and was best after 2 iterations" in line
    rows = [json.loads(row) for row in (tmp_path / "metrics.json").open()]
    assert (rows[-1]["bbox/AP"], rows[-1]["ema/bbox/AP"]) == (4.0, 58.0)
    average, last = (weights(tmp_path, name) for name in ("model_ema", "model_0000003"))
    assert any(not torch.equal(average[name], last[name]) for name in last)
    # Where nothing can stop, the average is scored at the end alone.
    calls = scored(raw=range(1, 8), average=(0.0,) * 7)
    run(tmp_path / "not", *EMA)
    assert [call for call in calls if not call[1]] == [(7, False)]


def test_an_average_that_a_continued_run_gains_is_not_scored_before_it_exists(tmp_path, scored):
    scored(average=APS)
    run(tmp_path, *EARLY, max_iter=2)
    (tmp_path / "last_checkpoint").write_text("model_0000000.pth")
    assert run(tmp_path, *EARLY, *EMA, resume=True).iter == 4  # 30, 20, 25 after 2, 3, 4


def test_a_score_without_a_value_at_the_first_evaluation_is_refused(tmp_path, scored):
    scored()
    with pytest.raises(
        UserError, match="bbox/AP-circle has no value .* are bbox/AP; vfnet/num_gt$"
    ):
        run(tmp_path, *EARLY, "SOLVER.EARLY_STOP.METRIC", "bbox/AP-circle")
    assert not (tmp_path / "model_final.pth").exists()


def test_a_score_that_is_missing_later_is_no_improvement(tmp_path, scored):
    scored((10.0, None, None, 50.0))
    assert run(tmp_path, *EARLY).iter == 3


def test_the_validation_loss_ends_a_run(tmp_path):
    DatasetCatalog.register("two", lambda: load_shapes("val")[:2])
    MetadataCatalog.get("two").set(thing_classes=["circle", "square", "triangle"])
    loss = ("SOLVER.EARLY_STOP.METRIC", "validation/total_loss", "TEST.VALIDATION_LOSS", "True")
    # A rate at which the loss can only rise, or stay.
    still = ("SOLVER.BASE_LR", "0.0", "DATASETS.TEST", "('two',)")
    assert run(tmp_path, *EARLY, *loss, *still).iter == 3


LOSS = ("SOLVER.EARLY_STOP.METRIC", "validation/total_loss")


@pytest.mark.parametrize(
    "overrides, words",
    [
        ((PATIENCE, "0"), "PATIENCE has to be 1 or more, got 0"),
        (("SOLVER.SWA.ENABLED", "True", "SOLVER.SWA.CYCLES", "1"), "not go with SOLVER.SWA"),
        (("SOLVER.EARLY_STOP.METRIC", "bbox/ap"), "is bbox/ap, .* expected one of .*; bbox/AP75;"),
        (("SOLVER.EARLY_STOP.METRIC", "bbox/AP-cat"), "is bbox/AP-cat, .* expected one of"),
        (("SOLVER.EARLY_STOP.METRIC", "AP"), "is AP, .* expected one of"),
        (LOSS, "set TEST.VALIDATION_LOSS True"),
        (("DATASETS.TEST", "('bare',)"), "bare has no annotations"),
    ],
)
def test_what_cannot_work_is_refused_before_the_run(tmp_path, overrides, words):
    bare = [{**record, "annotations": []} for record in load_shapes("val")[:2]]
    DatasetCatalog.register("bare", lambda: bare)
    torch.save({"model": {}}, tmp_path / "weights.pth")
    cfg = tiny_config(tmp_path / "run", *EARLY, *EACH, *ONE_SET, *overrides)
    weights = str(tmp_path / "weights.pth") if cfg.SOLVER.SWA.ENABLED else ""
    with pytest.raises(UserError, match=words):
        check_run(cfg, cfg.DATASETS.TEST, weights, training=True)


@pytest.mark.parametrize(
    "overrides",
    [
        ("SOLVER.EARLY_STOP.METRIC", "bbox/AP-square"),
        ("SOLVER.EARLY_STOP.METRIC", "shapes_train/vfnet/AP-square"),
        (*LOSS, "TEST.VALIDATION_LOSS", "True"),
    ],
)
def test_what_works_is_not_refused(tmp_path, overrides):
    sets = ("DATASETS.TEST", "('shapes_val', 'shapes_train')")
    check_run(tiny_config(tmp_path, *EARLY, *EACH, *sets, *overrides), [], "", training=True)


@pytest.mark.parametrize("nothing", [("TEST.EVAL_PERIOD", "0"), ("DATASETS.TEST", "()")])
def test_a_run_without_evaluations_goes_to_its_end_and_is_told(tmp_path, nothing):
    cfg = tiny_config(tmp_path, *EARLY, *EACH, *nothing)
    (line,) = [line for line in config_warnings(cfg, True) if "EARLY_STOP" in line]
    assert "goes by evaluations, and there are none on the way" in line
    check_early_stop(cfg)
    assert run(tmp_path, *EARLY, *nothing).iter == 7
