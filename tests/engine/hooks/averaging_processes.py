"""What test_averaging_processes.py runs on two CPU processes: writes the averages of each."""

import sys
from pathlib import Path

import torch
from detectron2.utils import comm

from tests.engine.tiny import LARGE_STEP, picture, tiny_config, train_on
from vfnet.engine import launch
from vfnet.engine.hooks.averaging import WeightAverage

SETTINGS = (
    *("SOLVER.SWA.ENABLED", "True", "SOLVER.SWA.CYCLES", "2", "TEST.PRECISE_BN.NUM_ITER", "1"),
    *("SOLVER.EMA.ENABLED", "True", "MODEL.VFNET.BACKBONE_NORM_EVAL", "False"),
    *LARGE_STEP,
)


def main(folder):
    batch = [picture(1 + comm.get_rank())]
    trainer = train_on(tiny_config(folder, *SETTINGS), batch, batch)
    averages = [hook for hook in trainer._hooks if isinstance(hook, WeightAverage)]
    found = {average.name: average.averaged_model.state_dict() for average in averages}
    torch.save(found, folder / f"found{comm.get_rank()}.pt")


if __name__ == "__main__":
    launch(main, (Path(sys.argv[1]),), device="cpu", num_gpus=2)
