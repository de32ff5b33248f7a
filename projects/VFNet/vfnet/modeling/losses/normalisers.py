"""What losses are divided by: numbers of the whole batch, whatever part of it is computed."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import UserError
from ...utils.comm import mean_over_processes
from ...utils.whole_batch import of_whole_batch

# Positives of each image (N,) -> a scalar, of this process alone.
Normaliser = Callable[[Tensor], Tensor]


def means_over_processes(num_positive: int | Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Positives, and the sum of each list of weights, of a process on average: one reduction.

    To be called by every process, whatever it holds: inside a branch that depends on the data, the
    processes would wait for each other for ever. Losses are divided by these, kept at 1 or above.

    Args:
        num_positive: locations of this process that learn a box; a 0-dim tensor may hold it.
        weights: (P,) each, of its positives; at least one list.

    Returns:
        (1 + lists,) float32.
    """
    # A NaN stays in its own process's loss: spread by the sum, it would blame every image.
    sums = [weight.sum().nan_to_num() for weight in weights]
    if not isinstance(num_positive, Tensor):
        num_positive = sums[0].new_full((), num_positive)
    return of_whole_batch(torch.stack([num_positive.to(sums[0]), *sums]), mean_over_processes)


def count_positives(positives: Tensor) -> Tensor:
    """The sum of positives (N,) of images, of which each counts as one at least: mmdet's."""
    return positives.clamp(min=1).sum()


def positives_of_batch(positives: Tensor) -> Tensor:
    """The positives of all images of the batch, counted so: mmdet's where processes share none."""
    return of_whole_batch(count_positives(positives))


class MovingAverage(nn.Module):
    """The average number of positives, those of the last batches most, as in Detectron2.

    Unlike there it is in checkpoints, so that a continued run goes on with it; one without it
    leaves it as it is. In eval mode it stands still, and losses are divided by the positives of
    their own batch, which is what it is an average of.
    """

    average: Tensor

    def __init__(self, initial: float = 100.0, momentum: float = 0.9):
        super().__init__()
        self.momentum = momentum
        self.register_buffer("average", torch.tensor(initial))

    def forward(self, positives: Tensor) -> Tensor:
        """Take the positives (N,) of a batch into account, once -> the average, a scalar."""
        if not self.training:
            return positives.sum().clamp(min=1)
        return of_whole_batch(positives.sum(), self._update)

    def _update(self, positives: Tensor) -> Tensor:
        number = positives.clamp(min=1)
        self.average = self.momentum * self.average + (1 - self.momentum) * number
        return self.average

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        state_dict.setdefault(f"{prefix}average", self.average)
        super()._load_from_state_dict(state_dict, prefix, *rest)


def build_normaliser(name: str, *, prefix: str) -> Normaliser:
    """What LOSS_NORMALIZER names, "ema" or "positives"; messages begin with `prefix`."""
    if name == "ema":
        return MovingAverage()
    if name == "positives":
        return positives_of_batch
    raise UserError(f"{prefix}.LOSS_NORMALIZER must be 'ema' or 'positives', got {name!r}")
