"""The model of a run, built without memory: what it shows before anything is trained."""

import contextlib
import os
from collections.abc import Iterator

import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer
from detectron2.modeling import build_model
from detectron2.utils import comm
from torch import nn

from ...data import images_per_process
from ...errors import UserError
from ...solver import build_lr_scheduler, build_optimizer


def trial_model(cfg: CfgNode, training: bool) -> nn.Module:
    """Build a model without memory, and optimizer and schedule to train it with.

    Raises:
        UserError: they cannot be built, would not fit into memory, do not take the channels of
            INPUT.FORMAT, or have norms that fail where a level is a single cell.
    """
    _check_channels(cfg)
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "meta"
    with (
        build_errors("MODEL (META_ARCHITECTURE, BACKBONE.NAME and what belongs to them)"),
        torch.device("meta"),
    ):
        model = build_model(cfg)
    _check_memory(model, training)
    _check_norms(cfg, model, training)
    if training:
        with build_errors("SOLVER (REFERENCE_WORLD_SIZE, IMS_PER_BATCH)"):
            DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size())
        with build_errors("SOLVER (LR_SCHEDULER_NAME, BASE_LR, STEPS, MAX_ITER and the others)"):
            build_lr_scheduler(cfg, build_optimizer(cfg, model))
    return model


def _check_memory(model: nn.Module, training: bool) -> None:
    # A parameter that learns has a gradient and a momentum beside it.
    parameters = sum(p.numel() for p in model.parameters())
    needed = parameters * 4 * (3 if training else 1)
    if needed > (there := memory()):
        raise UserError(
            f"the model has {parameters} parameters, which take {needed / 2**30:.1f} GiB, but this "
            f"machine's memory is {there / 2**30:.1f} GiB: make it smaller (layers, channels and "
            "classes of MODEL)"
        )


def _check_channels(cfg: CfgNode) -> None:
    mean, std = len(cfg.MODEL.PIXEL_MEAN), len(cfg.MODEL.PIXEL_STD)
    channels = 1 if cfg.INPUT.FORMAT == "L" else 3
    # One channel is repeated by the subtraction of several means.
    if mean != std or channels not in (1, mean):
        raise UserError(
            f"MODEL.PIXEL_MEAN has {mean} numbers and PIXEL_STD {std}, but pictures of "
            f"INPUT.FORMAT {cfg.INPUT.FORMAT} have {channels} channels: give one number for each"
        )


def _check_norms(cfg: CfgNode, model: nn.Module, training: bool) -> None:
    """Look for norms of a pyramid or head that find one value only in the smallest pictures."""
    coarsest = max((s.stride or 0 for s in model.backbone.output_shape().values()), default=0)
    inputs, alone = cfg.INPUT, training and images_per_process(cfg) // cfg.SOLVER.ACCUM_STEPS == 1
    may_be_cell = {
        "INPUT.MIN_SIZE_TRAIN": alone and 0 < min(inputs.MIN_SIZE_TRAIN) <= coarsest,
        "INPUT.MIN_SIZE_TEST": bool(cfg.DATASETS.TEST) and 0 < inputs.MIN_SIZE_TEST <= coarsest,
    }
    for name, module in model.named_modules():
        if "bottom_up" in name:  # has no level that coarse
            continue
        learns_alone = isinstance(module, nn.BatchNorm2d) and alone
        is_alone = isinstance(module, nn.GroupNorm) and module.num_groups == module.num_channels
        for key, is_cell in may_be_cell.items():
            if is_cell and (is_alone or (learns_alone and key.endswith("TRAIN"))):
                more_images = " or more images for each process" if training else ""
                raise UserError(
                    f"{key} reaches down to {coarsest} pixels, where the coarsest level of a "
                    f"square picture is a single cell, and {name} ({type(module).__name__}) cannot "
                    f"normalise a single value: raise it, or choose another norm{more_images}"
                )


def memory() -> int:
    """The memory of this machine, in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@contextlib.contextmanager
def build_errors(keys: str) -> Iterator[None]:
    """Turn what building from `keys` raises into a `UserError` that names them."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # of any type, where a config names what does not exist or fit
        # str() of a KeyError is the text in quotes.
        text = " ".join(str(error.args[0] if error.args else "").split())
        raise UserError(
            f"nothing can be built from {keys} as configured: {type(error).__name__} {text}"
        ) from error
