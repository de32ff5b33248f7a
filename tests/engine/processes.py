"""What test_processes.py runs on CPU processes: writes what it finds to a folder."""

import json
import sys
from pathlib import Path

import torch
from detectron2.data import DatasetCatalog
from detectron2.utils import comm

from vfnet.data.datasets.shapes import load_shapes
from vfnet.engine import NonFiniteLossError, Trainer, launch
from vfnet.engine.step import check_finite
from vfnet.engine.validation import validation_losses

from .tiny import nan_picture, picture, tiny_config, train_on
from .tiny_family import CONFIGS

# Boxes of the pictures of each step. In the second, the later processes have none.
BOXES = ((6, 6, 6, 6), (6, 6, 0, 0), (3, 0, 6, 1))
# Steps that tell pictures apart, and yet leave each process an IoU sum of 1 on average: below, the
# normaliser is held at 1, and the number of processes matters (as in the reference implementation).
STEPS = ("SOLVER.BASE_LR", "0.01", "SOLVER.WARMUP_FACTOR", "1.0")
# What the processes share evenly, be there 1, 2 or 4.
FOUR = ("SOLVER.IMS_PER_BATCH", "4")
LOSSES = ("loss_cls", "loss_box_init", "loss_box_refined", "total_loss")


def train_on_own_share(folder):
    """Train on this process's share of each step's pictures; the first process writes the end."""
    steps = []
    for step, boxes in enumerate(BOXES):
        batch = [picture(4 * step + number, num_boxes=count) for number, count in enumerate(boxes)]
        share = len(batch) // comm.get_world_size()
        steps.append(batch[comm.get_rank() * share :][:share])
    # In float32 a share's convolutions round otherwise than the whole batch's, and a ReLU whose
    # input is 0 but for rounding passes the gradient or not: weights then differ by 1e-4.
    torch.set_default_dtype(torch.float64)
    # Pictures are one process's own business, for which no other waits.
    trainer = train_on(tiny_config(folder / "shares", *FOUR, *STEPS, "VIS_PERIOD", "2"), *steps)
    if comm.get_world_size() == 2:
        accumulate = (*FOUR, "SOLVER.ACCUM_STEPS", "2")
        parts = train_on(tiny_config(folder / "parts", *STEPS, *accumulate), *steps)
        save_weights(parts, folder / "parts.pth")
    torch.set_default_dtype(torch.float32)
    save_weights(trainer, folder / "weights.pth")
    if comm.is_main_process():
        histories = {name: trainer.storage.history(name).values() for name in LOSSES}
        losses = {name: [value for value, _ in history] for name, history in histories.items()}
        (folder / "losses.json").write_text(json.dumps(losses))


def save_weights(trainer, path):
    if comm.is_main_process():
        torch.save(trainer.checkpointer.model.state_dict(), path)


def without_gradient(folder, name, boxes, config=tiny_config):
    """Step once on a picture with so many boxes; return the parameters without a gradient."""
    trainer = train_on(config(folder / name, *FOUR), [picture(1, num_boxes=boxes)])
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
        train_on(tiny_config(folder / "bad", *FOUR), batch)
    except NonFiniteLossError as error:
        return str(error)
    return ""


def score_with_moving_statistics(folder):
    """Move batch norms by another picture each, then score; return their means' differences."""
    cfg = tiny_config(folder / "moving", *FOUR, "MODEL.VFNET.BACKBONE_NORM_EVAL", "False")
    model = Trainer(cfg).model
    model([picture(1 + comm.get_rank())])
    moved = difference_between_processes(model)
    Trainer.test(cfg, model)
    return moved, difference_between_processes(model)


def stop_early(folder):
    """Train until the scores, which the first process alone has, no longer rise; when was that?"""

    class Scored(Trainer):
        def test(self, cfg, model):
            done = self.scheduler.last_epoch
            return {"bbox": {"AP": min(done, 3)}} if comm.is_main_process() else {}

    early = ("SOLVER.EARLY_STOP.ENABLED", "True", "SOLVER.EARLY_STOP.PATIENCE", "2")
    often = ("TEST.EVAL_PERIOD", "1", "DATASETS.TEST", "('shapes_val',)", "SOLVER.MAX_ITER", "9")
    trainer = Scored(tiny_config(folder / "early", *early, *often, *FOUR))
    trainer.train()
    return trainer.iter


def losses_on_three_pictures(folder):
    """The validation losses of three pictures, and of one: on some processes there is none."""
    cfg = tiny_config(folder / "validation", *FOUR)
    torch.manual_seed(0)
    model = Trainer.build_model(cfg)
    found = []
    for number in (3, 1):
        DatasetCatalog.register(f"val_{number}", lambda number=number: load_shapes("val")[:number])
        found.append(validation_losses(cfg, model, f"val_{number}"))
    return found


def difference_between_processes(model):
    """The largest difference between the running means of the first and another process."""
    means = [buffer for name, buffer in model.named_buffers() if name.endswith("running_mean")]
    first, *others = comm.all_gather(torch.cat(means))
    return max((first - other).abs().max().item() for other in others)


def main(folder):
    train_on_own_share(folder)
    losses = losses_on_three_pictures(folder)
    if comm.is_main_process():
        (folder / "validation.json").write_text(json.dumps(losses))
    if comm.get_world_size() == 1:
        return
    boxes = 0 if comm.get_rank() == 1 else 6
    family = CONFIGS if comm.get_world_size() == 2 else {}
    found = {
        "none on one": without_gradient(folder, "none_on_one", boxes),
        "family": {
            name: without_gradient(folder, name, boxes, config) for name, config in family.items()
        },
        "none on all": without_gradient(folder, "none_on_all", 0),
        "bad loss": meet_a_bad_loss(),
        "bad picture": meet_a_bad_picture(folder),
        "early": stop_early(folder),
        "statistics": score_with_moving_statistics(folder),
    }
    (folder / f"found{comm.get_rank()}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    launch(main, (Path(sys.argv[1]),), device="cpu", num_gpus=int(sys.argv[2]))
