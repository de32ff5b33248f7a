"""What shows that a box head has diverged, though its losses look small.

A box that misses its ground truth has an IoU of 0: in an IoU-weighted loss it weighs nothing, and
what is bounded before it is an exponent has no gradient. So such a head neither fails nor recovers.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..utils.whole_batch import of_whole_batch

# IoU below which a positive's box misses its ground truth.
MISSED_BELOW = 1e-3
# The names of the scalars, behind that of the detector.
LARGEST_RAW = "largest_raw_distance"
MISSED_SHARE = "positives_without_overlap"


@torch.no_grad()
def divergence_signs(raw: Sequence[Tensor], ious: Tensor) -> dict[str, Tensor]:
    """The signs in a batch of this process, all of its parts, as 0-dim tensors by name.

    Args:
        raw: what the layers of boxes gave, before it is scaled, bounded or decoded; of any shapes.
        ious: (P,), of the positives' boxes with their ground truth. Without one the share is 0.
    """
    largest = [torch.linalg.vector_norm(x.float(), ord=float("inf")) for x in raw]
    missed, number = of_whole_batch((ious < MISSED_BELOW).sum()), of_whole_batch(len(ious))
    whole = of_whole_batch(torch.stack(largest).amax(), combine=torch.maximum)
    return {LARGEST_RAW: whole, MISSED_SHARE: missed / max(number, 1)}
