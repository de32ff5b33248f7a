"""The loss of a distribution over distances, float32 inside whatever autocast says."""

import torch
from torch import Tensor


def distribution_focal_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Distribution focal loss (GFL, equation 6, https://arxiv.org/abs/2006.04388), of each target.

    The cross entropies with the two bins beside the target, weighted by how near each is.

    Args:
        logits: (..., B), of bins 0 to B - 1.
        targets: (...), 0 or more and below B - 1.

    Returns:
        (...).
    """
    log_probabilities = logits.float().log_softmax(dim=-1)
    low = targets.floor()
    share = targets - low  # of the upper bin
    bins = torch.stack((low, low + 1), dim=-1).long()
    low_log, high_log = log_probabilities.gather(-1, bins).unbind(dim=-1)
    return -(1 - share) * low_log - share * high_log
