"""SOLVER.DETERMINISTIC: the same bits again, whatever loads the pictures."""

import os
import warnings

import pytest
import torch
from detectron2.utils.env import seed_all_rng

from vfnet.engine import Trainer, make_deterministic

from .tiny import picture, tiny_config, train_on
from .tiny_family import CONFIGS

DETERMINISTIC = ("SOLVER.DETERMINISTIC", "True")


@pytest.fixture(autouse=True)
def restore_choices(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    yield
    torch.use_deterministic_algorithms(False)
    cudnn.deterministic, cudnn.benchmark = before


def weights_of_run(cfg):
    """Of a run as train_net.py starts it."""
    make_deterministic(cfg)
    seed_all_rng(cfg.SEED)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*deterministic")  # of which a CPU has none
        trainer.train()
    trainer._trainer.reset_data_loader(list)  # which ends the loader's worker
    return trainer.model.state_dict()


@pytest.mark.parametrize("name", ["vfnet", *CONFIGS])
def test_two_runs_of_a_detector_give_the_same_bits(name, tmp_path):
    config = CONFIGS.get(name, tiny_config)
    runs = []
    for workers in ("0", "1"):
        more = ("SOLVER.MAX_ITER", "2", "DATALOADER.NUM_WORKERS", workers, "SEED", "3")
        runs.append(weights_of_run(config(tmp_path / workers, *DETERMINISTIC, *more)))
    first, second = runs
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[key]) for key, value in first.items())


def test_a_run_without_a_seed_draws_one_and_says_so(tmp_path):
    cfg = tiny_config(tmp_path, *DETERMINISTIC, "SEED", "-1")
    (line,) = make_deterministic(cfg)
    assert cfg.SEED >= 0 and f"SEED {cfg.SEED} was drawn" in line
    assert make_deterministic(cfg) == []
    # One that goes on has its checkpoint's.
    cfg = tiny_config(tmp_path, *DETERMINISTIC, "SEED", "-1")
    assert make_deterministic(cfg, resuming=True) == [] and cfg.SEED == -1


@pytest.mark.parametrize("on", [True, False])
def test_what_is_chosen(tmp_path, on):
    torch.backends.cudnn.benchmark = True
    train_on(tiny_config(tmp_path, "SOLVER.DETERMINISTIC", str(on)), [picture(1)])
    assert torch.are_deterministic_algorithms_enabled() == on
    assert torch.backends.cudnn.benchmark != on
    assert ("CUBLAS_WORKSPACE_CONFIG" in os.environ) == on
