"""What test_uneven_boxes.py runs on CPU processes: every one has another number of boxes."""

import random
import sys
from pathlib import Path

import torch
from detectron2.utils import comm

from vfnet.engine import launch

from .tiny import picture, tiny_config, train_on


def main(folder, iterations):
    """Train; each process writes its weights, the first one the losses, which are means of all."""
    rank = comm.get_rank()
    generator = random.Random(rank)
    batches = [
        [picture(iterations * rank + number, generator.choice([0, 0, 1, 5, 40, 150]), (64, 64))]
        for number in range(iterations)
    ]
    one_each = ("SOLVER.IMS_PER_BATCH", comm.get_world_size(), "SOLVER.CHECKPOINT_PERIOD", 1000)
    trainer = train_on(tiny_config(folder / "run", *one_each), *batches)
    torch.save(trainer.checkpointer.model.state_dict(), folder / f"weights{rank}.pth")
    if comm.is_main_process():
        losses = [loss for loss, _ in trainer.storage.history("total_loss").values()]
        torch.save(torch.tensor(losses), folder / "losses.pth")


if __name__ == "__main__":
    processes, iterations = map(int, sys.argv[2:])
    launch(main, (Path(sys.argv[1]), iterations), device="cpu", num_gpus=processes)
