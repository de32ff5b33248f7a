"""What is checked and said before a run starts. The checks of whole runs: tests/train_net."""

import pytest

from vfnet import get_cfg
from vfnet.engine import config_warnings, datasets_of_run
from vfnet.utils import precision


@pytest.mark.parametrize(
    "batch, rate, training, said",
    [
        (8, 0.01, True, True),
        (16, 0.01, True, False),
        (8, 0.005, True, False),
        (8, 0.01, False, False),
    ],
)
def test_the_published_rate_with_another_batch_is_pointed_out(batch, rate, training, said):
    cfg = get_cfg()
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR = batch, rate
    lines = config_warnings(cfg, training)
    assert len(lines) == said
    assert all("IMS_PER_BATCH 8" in line and "BASE_LR 0.005" in line for line in lines)


@pytest.mark.parametrize(
    "enabled, iterations, said", [(True, 888, True), (True, 87960, False), (False, 888, False)]
)
def test_a_moving_average_too_slow_for_the_run_is_pointed_out(enabled, iterations, said):
    cfg = get_cfg()
    cfg.SOLVER.EMA.ENABLED, cfg.SOLVER.MAX_ITER = enabled, iterations
    lines = [line for line in config_warnings(cfg, training=True) if "EMA" in line]
    assert len(lines) == said
    # 0.9998^888 = 0.837, and 0.01^(1 / 888) = 0.99483.
    assert all("84%" in line and "0.9948 would" in line for line in lines)


def test_weights_that_do_not_fit_the_input_are_pointed_out():
    cfg = get_cfg()
    cfg.MODEL.WEIGHTS = "detectron2://ImageNetPretrained/torchvision/R-50.pkl"
    assert any("INPUT.FORMAT" in line for line in config_warnings(cfg, training=False))


def test_the_data_sets_of_a_run():
    cfg = get_cfg()
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("a",), ("b", "c")
    assert datasets_of_run(cfg, training=True) == ["a", "b", "c"]
    assert datasets_of_run(cfg, training=False) == ["b", "c"]


@pytest.mark.parametrize("has", [True, False])
def test_a_precision_that_this_cpu_has_no_instructions_for_is_warned_of(monkeypatch, has):
    monkeypatch.setattr(precision, "_cpu_has_bfloat16", lambda: has)
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.VFNET.PRECISION_TEST = "bfloat16"
    cfg.SOLVER.AMP.ENABLED, cfg.SOLVER.AMP.PRECISION = True, "bfloat16"
    for training, keys in ((False, 1), (True, 2)):
        slow = [line for line in config_warnings(cfg, training) if "is bfloat16" in line]
        assert len(slow) == (0 if has else keys)
