"""Schedules of another batch and in epochs, converted once."""

import logging
import re

import pytest
from detectron2.config import CfgNode

from vfnet.data import register_coco_format
from vfnet.engine import Trainer, check_run, in_iterations, load_config, schedule_warnings
from vfnet.errors import UserError
from vfnet.solver.cyclic import build_lr_scheduler

from .tiny import GivenBatches, picture, tiny_config

# tiny.yaml: 320 pictures, batches of 2, so that an epoch is 160 iterations.
EPOCHS = ("SOLVER.EPOCHS", "3", "SOLVER.STEPS", "(1, 2.5)")
SCALED = (
    *("SOLVER.REFERENCE_BATCH", "8", "SOLVER.BASE_LR", "0.02", "SOLVER.MAX_ITER", "90"),
    *("SOLVER.STEPS", "(60, 80)", "SOLVER.WARMUP_ITERS", "5"),
    *("SOLVER.CHECKPOINT_PERIOD", "10", "TEST.EVAL_PERIOD", "15"),
)


def converted(*overrides, folder=""):
    cfg, lines = in_iterations(tiny_config(folder, *overrides))
    return cfg.SOLVER, cfg.TEST, lines


def test_nothing_is_converted_by_default():
    cfg = tiny_config("")
    assert in_iterations(cfg) == (cfg, [])
    assert in_iterations(cfg)[0] is cfg


def test_epochs_are_counted_in_pictures_after_filtering():
    solver, test, (line,) = converted(*EPOCHS)
    assert (solver.MAX_ITER, solver.STEPS, solver.WARMUP_ITERS) == (480, (160, 400), 2)
    assert (test.EVAL_PERIOD, solver.CHECKPOINT_PERIOD) == (0, 3)
    assert "SOLVER.EPOCHS 3: an epoch is 160 iterations (320 images)" in line
    assert "MAX_ITER 480, STEPS (160, 400)" in line
    # 320 / 3 is 106.7, and the last batch of an epoch is one, too.
    assert converted(*EPOCHS, "SOLVER.IMS_PER_BATCH", "3")[0].MAX_ITER == 3 * 107


@pytest.mark.parametrize("epochs, iterations", [("0.5", 80), ("1", 160), ("0.0001", 1)])
def test_epochs_may_be_a_fraction(epochs, iterations):
    assert converted("SOLVER.EPOCHS", epochs)[0].MAX_ITER == iterations


def test_pictures_without_boxes_are_no_part_of_an_epoch(make_coco, tmp_path):
    file, _ = make_coco("some")
    file.write_text(file.read_text().replace('"image_id": 2', '"image_id": 1'))
    own = ("DATASETS.COCO_FORMAT", str([["some", str(file), str(file.parent)]]))
    iterations = []
    for leave_out in ("False", "True"):
        filtering = ("DATALOADER.FILTER_EMPTY_ANNOTATIONS", leave_out)
        more = ("DATASETS.TRAIN", "('some',)", "SOLVER.IMS_PER_BATCH", "1", "SOLVER.EPOCHS", "2")
        cfg = tiny_config(tmp_path, *own, *filtering, *more)
        cfg.MODEL.VFNET.NUM_CLASSES = 80
        register_coco_format(cfg)
        iterations.append(in_iterations(cfg)[0].SOLVER.MAX_ITER)
    assert iterations == [2 * 4, 2 * 3]


def test_a_schedule_of_another_batch_is_scaled_linearly():
    solver, test, (line,) = converted(*SCALED)
    assert solver.BASE_LR == pytest.approx(0.02 * 2 / 8)
    assert (solver.MAX_ITER, solver.STEPS, solver.WARMUP_ITERS) == (360, (240, 320), 20)
    assert (solver.CHECKPOINT_PERIOD, test.EVAL_PERIOD) == (40, 60)
    assert solver.WARMUP_FACTOR == 0.1
    assert line.startswith(
        "batch 2: BASE_LR 0.005, MAX_ITER 360, STEPS (240, 320), WARMUP_ITERS 20, EVAL_PERIOD 60, "
        "CHECKPOINT_PERIOD 40"
    )
    # A larger batch: fewer iterations, but never none.
    solver, _, _ = converted(*SCALED, "SOLVER.IMS_PER_BATCH", "80")
    assert (solver.BASE_LR, solver.MAX_ITER, solver.STEPS) == (pytest.approx(0.2), 9, (6, 8))
    assert (solver.WARMUP_ITERS, solver.CHECKPOINT_PERIOD) == (1, 1)


def test_a_step_that_rounds_to_the_end_is_left_out(tmp_path):
    large = ("SOLVER.IMS_PER_BATCH", "160", "SOLVER.STEPS", "(60, 89)")
    cfg, (line,) = in_iterations(tiny_config(tmp_path, *SCALED, *large))
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS) == (4, (3,))
    assert "MAX_ITER 4, STEPS (3,)" in line
    assert check_run(cfg, [], "", training=True) == []  # a schedule can be built


def test_epochs_are_not_scaled_but_rate_warm_up_and_periods_are():
    solver, test, lines = converted(*SCALED, *EPOCHS)
    assert (solver.MAX_ITER, solver.STEPS, solver.WARMUP_ITERS) == (480, (160, 400), 20)
    assert (solver.CHECKPOINT_PERIOD, test.EVAL_PERIOD) == (40, 60)
    assert solver.BASE_LR == pytest.approx(0.005)
    assert len(lines) == 2 and "MAX_ITER" not in lines[0]


@pytest.mark.parametrize("overrides", [EPOCHS, SCALED, (*SCALED, *EPOCHS)])
def test_a_dumped_config_is_not_converted_again(tmp_path, overrides):
    cfg, _ = in_iterations(tiny_config(tmp_path, *overrides))
    file = tmp_path / "config.yaml"
    file.write_text(cfg.dump())
    again, lines = in_iterations(load_config(str(file)))
    assert not lines
    assert again.SOLVER == cfg.SOLVER and again.TEST == cfg.TEST


def test_a_frozen_config_stays_as_it_is():
    cfg = tiny_config("", *EPOCHS)
    cfg.freeze()
    assert in_iterations(cfg)[0].is_frozen()
    assert (cfg.SOLVER.EPOCHS, cfg.SOLVER.MAX_ITER) == (3, 6)


@pytest.mark.parametrize(
    "overrides, pattern",
    [
        (("SOLVER.EPOCHS", "-1"), "SOLVER.EPOCHS must be 0 .* got -1"),
        (("SOLVER.EPOCHS", "1e999"), "SOLVER.EPOCHS must be 0 .* got inf"),
        (("SOLVER.REFERENCE_BATCH", "-16"), "SOLVER.REFERENCE_BATCH .* got -16"),
        (
            ("SOLVER.REFERENCE_BATCH", "2", "SOLVER.REFERENCE_WORLD_SIZE", "8"),
            "REFERENCE_BATCH 2 and Detectron2's REFERENCE_WORLD_SIZE 8 would both scale",
        ),
        ((*SCALED, "SOLVER.IMS_PER_BATCH", "0"), "SOLVER.IMS_PER_BATCH is 0"),
    ],
)
def test_what_is_no_unit_is_refused(overrides, pattern, tmp_path):
    cfg = tiny_config(tmp_path)
    cfg.merge_from_list(list(overrides))  # as a program of one's own: nothing has looked at it
    with pytest.raises(UserError, match=pattern):
        in_iterations(cfg)
    with pytest.raises(UserError, match=pattern):
        check_run(cfg, [], "", training=True)


@pytest.mark.parametrize(
    "steps, kept, beyond",
    [("(1, 2.5)", (160, 400), ""), ("(1, 3)", (160,), "3"), ("(8, 11)", (), "8, 11")],
)
def test_steps_that_come_after_the_last_epoch_are_named_in_epochs(tmp_path, steps, kept, beyond):
    cfg = tiny_config(tmp_path, "SOLVER.EPOCHS", "3", "SOLVER.STEPS", steps)
    line = (
        "SOLVER.STEPS are epochs, as SOLVER.EPOCHS 3 is set: the rate does not fall at "
        f"{beyond}, where the run has ended"
    )
    assert schedule_warnings(cfg) == ([line] if beyond else [])
    cfg, _ = in_iterations(cfg)
    assert (cfg.SOLVER.STEPS, schedule_warnings(cfg)) == (kept, [])
    assert check_run(cfg, [], "", training=True) == []  # a schedule can be built


@pytest.mark.parametrize("unit", [(), ("SOLVER.EPOCHS", "12")])
@pytest.mark.parametrize("steps", ["(4, 2)", "(2, 2)", "(0, 2)"])
def test_steps_that_do_not_rise_are_named_in_their_own_unit(tmp_path, unit, steps):
    cfg = tiny_config(tmp_path, *unit, "SOLVER.STEPS", steps)
    with pytest.raises(UserError, match=re.escape(f"has to rise, from above 0; got {steps}")):
        in_iterations(cfg)


@pytest.mark.parametrize(
    "overrides, text",
    [
        (
            ("SOLVER.EPOCHS", "1", "SOLVER.STEPS", "(0.5, 0.502)"),
            "got (80, 80) iterations, to which (0.5, 0.502) epochs round: leave one out",
        ),
        (
            ("SOLVER.EPOCHS", "1", "SOLVER.STEPS", "(0.002, 0.5)"),
            "got (0, 80) iterations, to which (0.002, 0.5) epochs round: leave one out",
        ),
        (
            ("SOLVER.REFERENCE_BATCH", "1", "SOLVER.STEPS", "(3, 4)"),
            "got (2, 2) iterations, to which (3, 4) for REFERENCE_BATCH 1 round: leave one out",
        ),
    ],
)
def test_steps_that_round_to_one_are_named_with_what_they_come_from(overrides, text):
    with pytest.raises(UserError, match=re.escape(text)):
        in_iterations(tiny_config("", *overrides))


SWA = ("SOLVER.SWA.ENABLED", "True", "SOLVER.SWA.CYCLES", "3")


def test_swas_cycles_are_epochs():
    cfg, _ = in_iterations(tiny_config("", "SOLVER.EPOCHS", "3", *SWA))
    assert cfg.SOLVER.MAX_ITER // cfg.SOLVER.SWA.CYCLES == 160
    assert cfg.SOLVER.STEPS == (5,)  # plays no part
    # Whole cycles of 2 iterations stay whole: 6 / 0.7 is no multiple of 3.
    seven = ("SOLVER.REFERENCE_BATCH", "10", "SOLVER.IMS_PER_BATCH", "7")
    assert converted(*seven, *SWA)[0].MAX_ITER == 9
    with pytest.raises(UserError, match="or SOLVER.EPOCHS to a multiple of CYCLES"):
        build_lr_scheduler(in_iterations(tiny_config("", "SOLVER.EPOCHS", "2", *SWA))[0], None)


def test_the_trainer_converts_what_nobody_has(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        trainer = Trainer(tiny_config(tmp_path, *EPOCHS))
    assert trainer.max_iter == trainer.cfg.SOLVER.MAX_ITER == 480
    assert sum("SOLVER.EPOCHS 3:" in record.message for record in caplog.records) == 1


def test_a_whole_number_is_a_float_in_a_file_too(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("SOLVER:\n  EPOCHS: 12\n  BASE_LR: 1\n")
    cfg = load_config(str(file), ["SOLVER.GAMMA", "1"])
    for value in (cfg.SOLVER.EPOCHS, cfg.SOLVER.BASE_LR, cfg.SOLVER.GAMMA):
        assert type(value) is float
    other = CfgNode({"SOLVER": {"EPOCHS": 3}})
    cfg.merge_from_other_cfg(other)
    assert (cfg.SOLVER.EPOCHS, type(other.SOLVER.EPOCHS)) == (3.0, int)
    with pytest.raises(UserError, match="Type mismatch"):
        load_config(str(file), ["SOLVER.MAX_ITER", "1.5"])


def test_a_continued_run_goes_on_with_the_same_iterations(tmp_path):
    """From the config as it was given, and from the one that was written."""

    class Given(GivenBatches):
        batches = [[picture(1)]] * 4

    overrides = ("SOLVER.EPOCHS", "0.025", "SOLVER.STEPS", "(0.02,)", "SOLVER.WARMUP_ITERS", "0")
    rates = {}
    for name in ("whole", "given", "written"):
        cfg = tiny_config(tmp_path / name, *overrides, "SEED", "1", "SOLVER.CHECKPOINT_PERIOD", "1")
        if name != "whole":
            stopped = Given(cfg)
            stopped.max_iter = 2
            stopped.resume_or_load(resume=False)
            stopped.train()
            if name == "written":
                cfg = stopped.cfg
        trainer = Given(cfg)
        trainer.resume_or_load(resume=True)
        trainer.train()
        history = trainer.storage.history("lr").values()
        rates[name] = {iteration: rate for rate, iteration in history}
    assert list(rates["whole"].values()) == pytest.approx([0.005, 0.005, 0.005, 0.0005])
    for name in ("given", "written"):
        assert rates[name] == {i: rates["whole"][i] for i in (2, 3)}
