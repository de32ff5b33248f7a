"""What can be known to be wrong before training starts, found before anything is written."""

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from typing import Callable

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model
from detectron2.utils import comm

from ..checkpoint import VFNetCheckpointer, weights_mismatches
from ..data import build_train_loader, check_images
from ..errors import UserError
from .step import autocast_precision

# The batch that the published rate of 0.01 belongs to.
_PUBLISHED_BATCH = 16
_PUBLISHED_LR = 0.01


def agree(check: Callable[[], None]) -> None:
    """Run a check once per machine; where it fails, fail on every process of the job.

    Raises:
        UserError: with the message of the check that failed.
    """
    message = None
    if comm.get_local_rank() == 0:
        try:
            check()
        except UserError as error:
            message = str(error)
    for failure in comm.all_gather(message):
        if failure is not None:
            raise UserError(failure)


def check_run(cfg: CfgNode, dataset_names: Sequence[str], weights: str, training: bool) -> None:
    """Check everything that a run needs and that is cheap against finding out later.

    Args:
        cfg: the config.
        dataset_names: the registered datasets that the run reads.
        weights: the file that the run loads; "" for none.
        training: whether it trains, or evaluates only.

    Raises:
        UserError: the first thing found wrong.
    """
    if training:
        _check_solver(cfg)
    _check_classes(cfg, dataset_names)
    _check_writable(cfg.OUTPUT_DIR)
    with _silent_logs():
        _check_own_data(cfg, dataset_names, training)
        _check_weights(cfg, weights)


def checkpoint_to_continue(output_dir: str, *, required: bool) -> str:
    """Return the path of the checkpoint that `--resume` continues from, "" for none.

    Raises:
        UserError: there is none and it is required, or the one named last is gone.
    """
    tag = os.path.join(output_dir, "last_checkpoint")
    if not os.path.isfile(tag):
        if required:
            raise UserError(
                f"--resume found nothing to resume: {tag} does not exist; check OUTPUT_DIR, or "
                "use `--resume auto` to start afresh where there is nothing to resume"
            )
        return ""
    with open(tag) as file:
        path = os.path.join(output_dir, file.read().strip())
    if not os.path.isfile(path):
        raise UserError(
            f"{tag} names {path}, which does not exist; write the name of an existing checkpoint "
            "into it, or remove it to start afresh"
        )
    return path


def config_warnings(cfg: CfgNode, training: bool) -> list[str]:
    """Return one line for each thing in the config that is allowed and probably not meant."""
    lines = list(weights_mismatches(cfg))
    batch, rate = cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR
    if training and batch != _PUBLISHED_BATCH and rate == _PUBLISHED_LR:
        lines.append(
            f"SOLVER.IMS_PER_BATCH {batch} is taken literally, and SOLVER.BASE_LR {rate} belongs "
            f"to {_PUBLISHED_BATCH} images: linear scaling gives "
            f"BASE_LR {rate * batch / _PUBLISHED_BATCH:g}"
        )
    return lines


def _check_solver(cfg: CfgNode) -> None:
    batch, processes = cfg.SOLVER.IMS_PER_BATCH, comm.get_world_size()
    if batch <= 0 or batch % processes:
        raise UserError(
            f"SOLVER.IMS_PER_BATCH must be a multiple of the {processes} processes, got {batch}"
        )
    amp = cfg.SOLVER.AMP
    autocast_precision(amp.ENABLED, amp.PRECISION, torch.device(cfg.MODEL.DEVICE).type)


def _check_classes(cfg: CfgNode, dataset_names: Sequence[str]) -> None:
    expected = cfg.MODEL.VFNET.NUM_CLASSES
    for name in dataset_names:
        count = len(MetadataCatalog.get(name).get("thing_classes", ()))
        # Classes that never occur do no harm in training; COCO's evaluation has no id for them.
        if count > expected or (0 < count < expected and name in cfg.DATASETS.TEST):
            raise UserError(
                f"{name} has {count} classes, but MODEL.VFNET.NUM_CLASSES is {expected}; "
                f"set it to {count}"
            )


def _check_writable(folder: str) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"OUTPUT_DIR {folder} cannot be written to ({error.strerror}); choose another one"
        ) from None


def _check_own_data(cfg: CfgNode, dataset_names: Sequence[str], training: bool) -> None:
    own = {name for name, _, _ in cfg.DATASETS.COCO_FORMAT}
    for name in dict.fromkeys(dataset_names):
        if name in own:
            check_images(DatasetCatalog.get(name))
    if training and own.intersection(cfg.DATASETS.TRAIN):
        build_train_loader(cfg, seed=0)


def _check_weights(cfg: CfgNode, weights: str) -> None:
    """Load the weights into a model of their own, to find out whether they fit."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "cpu"
    VFNetCheckpointer(build_model(cfg)).load(weights, checkpointables=[])


@contextlib.contextmanager
def _silent_logs() -> Iterator[None]:
    """What loading has to say is said when the run itself loads."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
