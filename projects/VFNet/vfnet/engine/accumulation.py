"""Gradients of a batch whose parts a model is given one after the other (SOLVER.ACCUM_STEPS).

A part takes the memory of its own pictures alone. So that the step is nevertheless that of the
whole batch, its losses are divided by sums over all parts: these are counted first, in a pass
without gradient. See `vfnet.utils.whole_batch`.
"""

from collections.abc import Callable
from contextlib import nullcontext
from itertools import pairwise
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..data import images_per_process
from ..errors import UserError
from ..modeling.meta_arch.candidates import CandidateDetector
from ..utils.whole_batch import WholeBatch
from .unchanged import unchanged

Batch = list[dict[str, Any]]
# Losses of a part, and the scalars that the model writes, by name.
Forward = Callable[[nn.Module, Batch], tuple[dict[str, Tensor], dict[str, Tensor]]]


class Accumulation:
    """Computes the gradients of a batch in so many parts.

    Dense detectors see each part twice, and get the gradients of the whole batch. The losses of
    others, such as GeneralizedRCNN, are means over samples that are drawn for each picture: their
    mean over the parts is taken, in one pass.
    """

    def __init__(self, model: nn.Module, steps: int) -> None:
        """
        Args:
            model: what is trained, wrapped for several processes or not.
            steps: parts of a batch, 2 or more; a batch has as many pictures at least.
        """
        self._model = model
        self._module = getattr(model, "module", model)
        self._steps = steps
        self._counts_first = isinstance(self._module, CandidateDetector)

    def compute(
        self,
        batch: Batch,
        forward: Forward,
        backward: Callable[[Tensor], object],
        restart: Callable[[], object],
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Add the gradients of a batch, which several processes exchange once.

        Args:
            batch: the pictures of this process.
            forward: gives a part to the model.
            backward: adds the gradients of a loss.
            restart: lets the generators begin anew, so that both passes draw the same.

        Returns:
            the losses of the whole batch, without gradient; its scalars.
        """
        whole = WholeBatch(_greatest_size(batch))
        parts = _split(batch, self._steps)
        if self._counts_first:
            with torch.no_grad(), unchanged(self._module):
                for part in parts:
                    with whole.part(counting=True):
                        forward(self._module, part)
            restart()
        losses: dict[str, Tensor] = {}
        for number, part in enumerate(parts, start=1):
            # Of several processes, the last part's backward exchanges the sum of all.
            last = number == len(parts) or self._model is self._module
            exchange = nullcontext() if last else self._model.no_sync()
            with whole.part(counting=False), exchange:
                found, scalars = forward(self._model, part)
                if not self._counts_first:
                    share = len(part) / len(batch)
                    found = {name: loss * share for name, loss in found.items()}
                backward(sum(found.values()))
            for name, loss in found.items():
                losses[name] = losses.get(name, 0) + loss.detach()
        return losses, scalars


def accumulation_steps(cfg: CfgNode) -> int:
    """SOLVER.ACCUM_STEPS.

    Raises:
        UserError: the batch of a process cannot be divided into so many equal parts.
    """
    steps, images = cfg.SOLVER.ACCUM_STEPS, images_per_process(cfg)
    if steps < 1 or images % steps:
        raise UserError(
            f"SOLVER.ACCUM_STEPS is {steps}: it has to divide the {images} images that a process "
            f"takes of SOLVER.IMS_PER_BATCH {cfg.SOLVER.IMS_PER_BATCH}, which stays the batch of a "
            "step"
        )
    return steps


def accumulation_warnings(model: nn.Module, steps: int) -> list[str]:
    """Return a line for each thing of a model that keeps parts from being the whole batch."""
    if steps == 1:
        return []
    lines = []
    if not isinstance(model, CandidateDetector):
        lines.append(
            f"SOLVER.ACCUM_STEPS {steps}: losses of {type(model).__name__} are the mean of those "
            "of the parts, each divided by its own samples"
        )
    model.train()
    if any(isinstance(module, _BatchNorm) and module.training for module in model.modules()):
        lines.append(
            f"SOLVER.ACCUM_STEPS {steps}: batch norms that learn their statistics see one part at "
            "a time, as with a batch of that size; MODEL.RESNETS.NORM_EVAL True keeps the "
            "backbone's as they are"
        )
    return lines


def _greatest_size(batch: Batch) -> tuple[int, int]:
    heights, widths = zip(*(record["image"].shape[-2:] for record in batch))
    return max(heights), max(widths)


def _split(batch: Batch, parts: int) -> list[Batch]:
    edges = [len(batch) * i // parts for i in range(parts + 1)]
    return [batch[start:end] for start, end in pairwise(edges)]
