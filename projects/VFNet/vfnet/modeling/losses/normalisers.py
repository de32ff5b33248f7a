"""What losses are divided by: the same on every process of a job."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ...utils.comm import mean_over_processes


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
    return mean_over_processes(torch.stack([num_positive.to(sums[0]), *sums]))
