"""Which RoIs the second stage of Libra R-CNN learns from (https://arxiv.org/abs/1904.02701, 3.1).

Both functions draw as mmdet's `IoUBalancedNegSampler` and `InstanceBalancedPosSampler` do, by
torch's generator, so that a seed decides.
"""

import torch
from torch import Tensor


def sample_negatives(
    ious: Tensor,
    highest_iou: Tensor,
    count: int,
    floor_at_zero: Tensor,
    bins: int = 3,
    generator: torch.Generator | None = None,
) -> Tensor:
    """IoU-balanced sampling: as many negatives of each range of IoU, as far as there are some.

    `bins` equal ranges from 0 to `highest_iou` give floor(count / bins) each, or all they have; any
    others fill up. `highest_iou` counts every RoI of the image, as mmdet does: with ground truths
    among them it is 1, and of 3 ranges the last is beyond a negative's IoU, so that a third is
    drawn without regard to IoU.

    Args:
        ious: (K,), the highest IoU of each negative with any ground truth.
        highest_iou: (), that of all RoIs of the image.
        count: how many are wanted.
        floor_at_zero: () bool. True: negatives of IoU 0 are in no range and fill up where nothing
            else is left. False: they are in the first range.

    Returns:
        (min(K, count),) int64, which of them, in no order.
    """
    device = ious.device
    if len(ious) <= count:
        return torch.arange(len(ious), device=device)
    edges = torch.arange(bins + 1, device=device) * (highest_iou / bins)
    # 0 to bins - 1, and `bins` for those that are in no range.
    range_index = torch.bucketize(ious, edges, right=True) - 1
    in_a_range = (ious > 0) | ~floor_at_zero
    range_index = range_index.masked_fill(~in_a_range, bins)
    shuffled = torch.randperm(len(ious), generator=generator, device=device)
    rank = torch.empty_like(shuffled)
    rank[shuffled] = _rank_in_group(range_index[shuffled])
    drawn = (range_index < bins) & (rank < count // bins)
    # Drawn ones first, then in random order the others: anew, since a rank is a place in the order.
    tier = torch.where(drawn, 0, torch.where(in_a_range, 1, 2))
    shuffled = torch.randperm(len(ious), generator=generator, device=device)
    return shuffled[tier[shuffled].argsort(stable=True)[:count]]


def sample_positives(
    gt_index: Tensor, count: int, generator: torch.Generator | None = None
) -> Tensor:
    """Instance-balanced sampling: about as many positives of each ground truth.

    Where there are more than `count`, round(count / ground truths) + 1 of each, or all it has. What
    this is too much is left out at random. What is missing is drawn from all positives, those that
    are already drawn included, which count once: as in mmdet (a set of tensors that compares their
    identity), and so there may be fewer than `count`.

    Args:
        gt_index: (P,), the ground truth that each positive learns.
        count: how many are wanted.

    Returns:
        (at most min(P, count),) int64, which of them, in no order.
    """
    device = gt_index.device
    if len(gt_index) <= count:
        return torch.arange(len(gt_index), device=device)
    each = round(count / len(gt_index.unique())) + 1
    shuffled = torch.randperm(len(gt_index), generator=generator, device=device)
    drawn = shuffled[_rank_in_group(gt_index[shuffled]) < each]
    if len(drawn) > count:
        return drawn[torch.randperm(len(drawn), generator=generator, device=device)[:count]]
    more = torch.randperm(len(gt_index), generator=generator, device=device)[: count - len(drawn)]
    return torch.cat((drawn, more)).unique()


def _rank_in_group(groups: Tensor) -> Tensor:
    """How many of the same group stand before each -> (K,)."""
    order = groups.argsort(stable=True)
    in_order = groups[order]
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(groups), device=groups.device) - torch.searchsorted(
        in_order, in_order
    )
    return rank
