"""A tiny VFNet, random pictures for it, and a trainer that is given its batches."""

from pathlib import Path

import torch
from detectron2.structures import Boxes, Instances

from vfnet.engine import Trainer, load_config

CONFIG = Path(__file__).with_name("tiny.yaml")
# Overrides for a first step that moves the weights far.
LARGE_STEP = ("SOLVER.BASE_LR", "0.1", "SOLVER.WARMUP_FACTOR", "1.0")


def tiny_config(output_dir, *overrides):
    return load_config(str(CONFIG), ["OUTPUT_DIR", str(output_dir), *overrides])


def picture(seed, num_boxes=6, size=(96, 128)):
    """Return a random picture with boxes of 24 to 64 pixels, as the model takes it."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    corner = torch.rand(num_boxes, 2, generator=generator) * torch.tensor([width, height]) / 3
    sides = 24 + 40 * torch.rand(num_boxes, 2, generator=generator)
    instances = Instances(size)
    instances.gt_boxes = Boxes(torch.cat([corner, corner + sides], dim=1))
    instances.gt_classes = torch.arange(num_boxes) % 3
    image = torch.rand(3, height, width, generator=generator) * 255
    return {
        "image": image,
        "instances": instances,
        "height": height,
        "width": width,
        "file_name": f"picture{seed}.jpg",
    }


def nan_picture():
    """Return picture 3, whose losses are not finite."""
    bad = picture(3)
    bad["image"] = bad["image"] * float("nan")
    return bad


class GivenBatches(Trainer):
    """A trainer whose batches are `batches`, one per iteration."""

    batches = []

    @classmethod
    def build_train_loader(cls, cfg, *, seed=0, start_iter=0):
        return cls.batches[start_iter:]


def train_on(cfg, *batches):
    """Train a VFNet with fixed first weights on these batches; return the trainer."""

    class Given(GivenBatches):
        pass

    Given.batches = list(batches)
    cfg.SOLVER.MAX_ITER = len(batches)
    torch.manual_seed(0)
    trainer = Given(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    return trainer
