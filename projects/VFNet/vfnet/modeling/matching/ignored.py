"""Regions that nothing is learnt in: crowds, and whatever else a data set marks so.

The mapper hands them on only where INPUT.KEEP_CROWD says so: see data/mapper.py.
What crowds do, from file to score: docs/own_data.md.
"""

from collections.abc import Sequence

import torch
from detectron2.structures import Boxes, pairwise_ioa
from torch import Tensor


@torch.no_grad()
def in_ignored_regions(
    regions: Sequence[Tensor], priors: Tensor, threshold: float
) -> Tensor | None:
    """Which locations of a batch, or anchors, stand for a box that lies in an ignored region.

    Memory is that of one region at a time.

    Args:
        regions: of N images, (I, 4) each, x1, y1, x2, y2 in pixels.
        priors: (R, 4), the box that each location stands for.
        threshold: the share of a prior's own area above which it lies in a region; several regions
            do not add up, as in mmdet's assigners (`ignore_iof_thr`).

    Returns:
        (N R,) bool; None where no image has a region.
    """
    if not any(map(len, regions)):
        return None
    return torch.cat([_covered(priors, own) > threshold for own in regions])


def _covered(priors: Tensor, regions: Tensor) -> Tensor:
    """The largest share of each prior that one region covers -> (R,)."""
    share = priors.new_zeros(len(priors))
    for region in regions.to(priors):
        share = torch.maximum(share, pairwise_ioa(Boxes(region[None]), Boxes(priors))[0])
    return share
