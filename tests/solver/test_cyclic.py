"""The cycles of SOLVER.SWA: every rate against the formula, and what cannot be a cycle."""

import math

import pytest
import torch
from detectron2.solver import LRMultiplier

from vfnet import get_cfg
from vfnet.errors import UserError
from vfnet.model_zoo import get_config
from vfnet.solver.cyclic import build_lr_scheduler, cosine_cycles

EPOCH = 7330  # of COCO, as in tests/test_configs.py


def swa_config(max_iter=21, cycles=3, end_factor=0.01):
    cfg = get_cfg()
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS, cfg.SOLVER.WARMUP_ITERS = max_iter, (5,), 4
    cfg.SOLVER.SWA.ENABLED, cfg.SOLVER.SWA.CYCLES = True, cycles
    cfg.SOLVER.SWA.END_LR_FACTOR = end_factor
    return cfg


def optimizer_of_two_groups():
    groups = [
        {"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 0.01},
        {"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 0.02},
    ]
    return torch.optim.SGD(groups, lr=0.01)


def rates(optimizer, schedule, iterations):
    found = []
    for _ in range(iterations):
        found.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return found


def rate(base, i, length=7):
    low = 0.01 * base
    return low + 0.5 * (base - low) * (1 + math.cos(math.pi * i / length))


EXPECTED = [[rate(base, i) for base in (0.01, 0.02)] for _ in range(3) for i in range(7)]


def test_all_rates_of_three_cycles_without_warm_up_and_steps():
    optimizer = optimizer_of_two_groups()
    found = rates(optimizer, build_lr_scheduler(swa_config(), optimizer), 21)
    torch.testing.assert_close(torch.tensor(found), torch.tensor(EXPECTED), rtol=1e-12, atol=0)
    assert found[0] == found[7] == found[14] == [0.01, 0.02]
    # The last of a cycle is not the lowest there is: (1 + cos(pi 6 / 7)) / 2 = 0.0495.
    assert found[6][0] == pytest.approx(0.0001 + 0.0099 * 0.0495, rel=1e-3)


def test_a_continued_run_has_the_rates_of_the_uninterrupted_one():
    optimizer = optimizer_of_two_groups()
    schedule = build_lr_scheduler(swa_config(), optimizer)
    rates(optimizer, schedule, 10)
    continued = optimizer_of_two_groups()
    after = build_lr_scheduler(swa_config(), continued)
    continued.load_state_dict(optimizer.state_dict())
    after.load_state_dict(schedule.state_dict())
    found = torch.tensor(rates(continued, after, 11))
    torch.testing.assert_close(found, torch.tensor(EXPECTED[10:]), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    "max_iter, cycles", [(100, 100), (87960, 12), (131940, 18), (148, 4), (3_000_000, 3)]
)
def test_rounding_moves_no_border_between_cycles(max_iter, cycles):
    factor = cosine_cycles(max_iter, cycles, 0.0)
    length = max_iter // cycles
    starts = [k * length for k in range(cycles)]
    assert all(factor(start / max_iter) == 1 for start in starts)
    last = 0.5 * (1 + math.cos(math.pi * (length - 1) / length))
    ends = [factor((start + length - 1) / max_iter) for start in starts]
    # Each border is a sum of up to 100 roundings; beyond it the factor would be 1.
    assert ends == pytest.approx([last] * cycles, abs=1e-12)


def test_without_swa_the_schedule_is_detectron2s():
    cfg = swa_config()
    cfg.SOLVER.SWA.ENABLED = False
    cfg.SOLVER.BASE_LR, cfg.SOLVER.WARMUP_FACTOR = 0.01, 0.1
    optimizer = optimizer_of_two_groups()
    schedule = build_lr_scheduler(cfg, optimizer)
    assert isinstance(schedule, LRMultiplier)
    found = [first for first, _ in rates(optimizer, schedule, 6)]
    assert found == pytest.approx([0.001, 0.00325, 0.0055, 0.00775, 0.01, 0.001])


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"max_iter": 20}, "MAX_ITER is 20 and SWA.CYCLES is 3"),
        ({"cycles": 0}, "SWA.CYCLES is 0"),
        ({"cycles": 42}, "MAX_ITER is 21"),
        ({"end_factor": 1.5}, "got 1.5"),
        ({"end_factor": -0.1}, "got -0.1"),
        ({"end_factor": math.nan}, "got nan"),
    ],
)
def test_what_cannot_be_a_cycle_is_refused(changes, words):
    with pytest.raises(UserError, match=words):
        build_lr_scheduler(swa_config(**changes), optimizer_of_two_groups())


@pytest.mark.parametrize(
    "name, base, cycles, epoch",
    [
        ("vfnet_R50_1x_swa", "vfnet_R50_1x", 12, EPOCH),
        ("vfnet_R101_1x_swa", "vfnet_R101_1x", 12, EPOCH),
        ("vfnet_R101_2x_swa", "vfnet_R101_2x", 12, EPOCH),
        ("vfnetx_R2_101_59e_swa", "vfnetx_R2_101_59e", 18, EPOCH),
        ("bccd_R18_swa", "demo/bccd_R18", 4, 37),
    ],
)
def test_a_swa_config_goes_on_from_its_run_in_cycles_of_an_epoch(name, base, cycles, epoch):
    cfg, run = get_config(f"swa/{name}.yaml"), get_config(f"{base}.yaml")
    swa = cfg.SOLVER.SWA
    assert (swa.ENABLED, swa.CYCLES, swa.END_LR_FACTOR) == (True, cycles, 0.01)
    assert cfg.SOLVER.MAX_ITER == cycles * epoch
    assert cfg.SOLVER.CHECKPOINT_PERIOD == cfg.TEST.EVAL_PERIOD == epoch
    assert cfg.MODEL.WEIGHTS == f"{run.OUTPUT_DIR}/model_best.pth"
    assert cfg.OUTPUT_DIR == f"{run.OUTPUT_DIR}_swa"
    # All else is the run's.
    for part in (cfg, run):
        part.OUTPUT_DIR = part.MODEL.WEIGHTS = ""
        part.SOLVER = part.TEST.EVAL_PERIOD = part.TEST.PRECISE_BN.NUM_ITER = None
    assert cfg == run
