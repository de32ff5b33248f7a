"""What test_two_processes.py runs on two CPU processes: writes what it finds to a folder."""

import json
import sys
from pathlib import Path

import torch
from detectron2.utils import comm
from tiny import LARGE_STEP, nan_picture, picture, tiny_config, train_on

from vfnet.engine import NonFiniteLossError, Trainer, launch
from vfnet.engine.step import check_finite


def step_with_one_picture_each(folder):
    cfg = tiny_config(folder / "one_each", *LARGE_STEP)
    trainer = train_on(cfg, [picture(1 + comm.get_rank())])
    if comm.is_main_process():
        torch.save(trainer.checkpointer.model.state_dict(), folder / "one_each.pth")


def without_gradient(folder, name, boxes):
    """Step once with so many boxes per process; return the parameters without a gradient."""
    batch = [picture(1, num_boxes=boxes[comm.get_rank()])]
    trainer = train_on(tiny_config(folder / name), batch)
    parameters = trainer.checkpointer.model.named_parameters()
    return [name for name, p in parameters if p.requires_grad and p.grad is None]


def meet_a_bad_loss():
    """Check losses of which one, of process 1, is not finite; return the error's message."""
    value = float("nan") if comm.get_rank() == 1 else 1.0
    losses = {"loss_a": torch.tensor(value), "loss_b": torch.tensor(1.0)}
    try:
        check_finite(losses, torch.ones(()), [picture(2 + comm.get_rank())], iteration=4)
    except NonFiniteLossError as error:
        return str(error)
    return ""


def meet_a_bad_picture(folder):
    """Train where process 1 has a picture that spoils the losses; return the error's message."""
    batch = [nan_picture() if comm.get_rank() == 1 else picture(1)]
    try:
        train_on(tiny_config(folder / "bad"), batch)
    except NonFiniteLossError as error:
        return str(error)
    return ""


def score_with_moving_statistics(folder):
    """Move batch norms by another picture each, then score; return their means' differences."""
    cfg = tiny_config(folder / "moving", "MODEL.VFNET.BACKBONE_NORM_EVAL", "False")
    model = Trainer(cfg).model
    model([picture(1 + comm.get_rank())])
    moved = difference_between_processes(model)
    Trainer.test(cfg, model)
    return moved, difference_between_processes(model)


def difference_between_processes(model):
    """The largest difference between the running means of the first and the second process."""
    means = [buffer for name, buffer in model.named_buffers() if name.endswith("running_mean")]
    first, second = comm.all_gather(torch.cat(means))
    return (first - second).abs().max().item()


def main(folder):
    step_with_one_picture_each(folder)
    found = {
        "none on one": without_gradient(folder, "none_on_one", boxes=(6, 0)),
        "none on both": without_gradient(folder, "none_on_both", boxes=(0, 0)),
        "bad loss": meet_a_bad_loss(),
        "bad picture": meet_a_bad_picture(folder),
        "statistics": score_with_moving_statistics(folder),
    }
    (folder / f"found{comm.get_rank()}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    launch(main, (Path(sys.argv[1]),), device="cpu", num_gpus=2)
