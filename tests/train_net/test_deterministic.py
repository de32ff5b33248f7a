"""The command with SOLVER.DETERMINISTIC, on two processes."""

import pytest
import torch
import yaml

from tests.train_net.runs import EVERYTHING_RANDOM, weights


@pytest.mark.only_soak
def test_a_run_without_a_seed_is_repeated_from_its_config(command, tmp_path):
    short = ("SOLVER.MAX_ITER", "2", *EVERYTHING_RANDOM)
    first, second = tmp_path / "first", tmp_path / "second"
    more = ("SEED", "-1", "SOLVER.DETERMINISTIC", "True", "OUTPUT_DIR", first)
    done = command("--num-gpus", "2", *short, *more)
    assert done.returncode == 0, done.stdout + done.stderr
    seed = yaml.safe_load((first / "config.yaml").read_text())["SEED"]
    assert done.stdout.count(f"SOLVER.DETERMINISTIC: SEED {seed} was drawn") == 1
    workers = ("DATALOADER.NUM_WORKERS", "2", "OUTPUT_DIR", second)
    done = command("--num-gpus", "2", *workers, config=first / "config.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    one, other = (weights(folder / "model_final.pth") for folder in (first, second))
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())
