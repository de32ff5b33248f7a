"""The losses of a detector on data that it is not trained on (TEST.VALIDATION_LOSS)."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import GeneralizedRCNN, ROIHeads
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.roi_heads.keypoint_head import BaseKeypointRCNNHead
from detectron2.modeling.roi_heads.mask_head import BaseMaskRCNNHead
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..data import build_validation_loader
from ..data.stream import seeded_generators
from ..modeling.heads.towers import TwoTowerHead
from ..utils.comm import alone
from .unchanged import unchanged

logger = logging.getLogger(__name__)

# The group of these losses among the results of an evaluation.
GROUP = "validation"
# The modules that in train mode give losses, or what these are made of. Norms, dropout and whatever
# else behaves otherwise in training are not among them.
_GIVES_LOSSES = (
    *(DenseDetector, TwoTowerHead, GeneralizedRCNN, RPN, ROIHeads),
    *(BaseMaskRCNNHead, BaseKeypointRCNNHead),
)


def add_validation_losses(cfg: CfgNode, model: Any, results: dict[str, Any]) -> None:
    """Add what TEST.VALIDATION_LOSS asks for of a module to the results of its evaluation."""
    if not (cfg.TEST.VALIDATION_LOSS and isinstance(model, nn.Module)):
        return
    detector = model.module if isinstance(model, DistributedDataParallel) else model
    test_sets = list(dict.fromkeys(cfg.DATASETS.TEST))
    for name in test_sets:
        if losses := validation_losses(cfg, detector, name):
            # Detectron2 nests the results of several sets by their names.
            of_set = results[name] if len(test_sets) > 1 else results
            of_set[GROUP] = losses


def validation_losses(cfg: CfgNode, model: nn.Module, dataset_name: str) -> dict[str, float]:
    """Return the losses on a data set by name, and `total_loss`, their sum.

    A loss is the mean over all pictures of what training would have it be in a batch of that
    picture alone: resized as for a test, neither flipped nor cropped, its own positives as the
    normaliser, float32, norms with the statistics that they have. So it is the same on any number
    of processes. What a detector draws of a picture, as an RPN its anchors, it draws alike each
    time. Nothing of the model or of the generators is changed. To be called by all processes.

    Args:
        cfg: the config.
        model: the detector, as it is trained or scored.
        dataset_name: a registered data set; without annotations it has no losses: one line says so.

    Returns:
        empty on other processes than the first.
    """
    loader = build_validation_loader(cfg, dataset_name)
    if loader is None:
        logger.info(f"{dataset_name} has no annotations, so it has no validation loss")
        return {}
    losses, count = mean_losses(model, loader)
    if not comm.is_main_process():
        return {}
    words = ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
    logger.info(f"validation loss on {count} pictures of {dataset_name}: {words}")
    return losses


def mean_losses(
    model: nn.Module, batches: Iterable[list[dict[str, Any]]]
) -> tuple[dict[str, float], int]:
    """Return the mean losses of the pictures of all processes, one a batch, and their number."""
    sums: Counter[str] = Counter()
    count = 0
    cuda = {p.device for p in model.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=list(cuda)), losses_only(model), torch.no_grad():
        for batch in batches:
            sums.update(losses_of(model, batch, bool(cuda)))
            count += 1
    gathered = comm.all_gather((dict(sums), count))
    count = sum(number for _, number in gathered)
    means = {
        name: sum(found.get(name, 0.0) for found, _ in gathered) / count
        for name in dict.fromkeys(name for found, _ in gathered for name in found)
    }
    return {"total_loss": sum(means.values()), **means}, count


def losses_of(model: nn.Module, batch: list[dict[str, Any]], cuda: bool) -> Mapping[str, float]:
    """The losses of a batch of this process; the model's state and its draws as for any other."""
    # A storage of its own: what the model records now is not about the training.
    with unchanged(model), alone(), EventStorage(), seeded_generators((0,)):
        if cuda:
            torch.cuda.manual_seed(0)
        return {name: float(value) for name, value in model(batch).items()}


@contextmanager
def losses_only(model: nn.Module) -> Iterator[None]:
    """Within it, the model gives losses, and all that learns or draws in training stands still."""
    modes = [(module, module.training) for module in model.modules()]
    for module, _ in modes:
        module.training = isinstance(module, _GIVES_LOSSES)
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
