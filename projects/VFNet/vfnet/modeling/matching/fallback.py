"""A location for every box: what boxes that the rule of assignment leaves out learn at.

Naming convention: M = ground-truth boxes, C = candidates of a box.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Places(NamedTuple):
    """Locations that boxes may learn at, (C, M) each.

    location: int64. iou: of the location's anchor with the box. is_inside: bool, whether the
    location lies in the box. distance: from the box's centre, in pixels. exists: bool.
    """

    location: Tensor
    iou: Tensor
    is_inside: Tensor
    distance: Tensor
    exists: Tensor


@torch.no_grad()
def give_every_box_a_location(
    locations: Tensor,
    gt_index: Tensor,
    candidates: Places,
    everywhere: Callable[[int], Places],
) -> tuple[Tensor, Tensor]:
    """Add, for each box that learns nowhere, its best location that no box has.

    The better of two places is the one inside the box, where any box can be predicted; then the one
    of the higher IoU, then the nearer one, then the lower location. Of all pairs of a box and one
    of its candidates the best comes first, and so on: a location that two boxes want goes to the
    one that it suits better (to the lower box, where they tie), and the other has its next best.
    Boxes whose candidates are all taken look everywhere in their image, in their order. So a box
    stays without a location only in an image that has fewer than boxes.

    It runs on the host, over the boxes that are left out.

    Args:
        locations, gt_index: (P,) int64, the assignment so far.
        candidates: of all M boxes.
        everywhere: a box -> all places of its image, (R, 1).

    Returns:
        locations, ascending, and gt_index: both at most (P + M,).
    """
    num_boxes = candidates.location.shape[1]
    is_waiting = np.ones(num_boxes, dtype=bool)
    is_waiting[gt_index.cpu().numpy()] = False
    waiting = np.flatnonzero(is_waiting)
    if not len(waiting):
        return locations, gt_index
    taken = set(locations.tolist())
    found: dict[int, int] = {}
    columns = torch.from_numpy(waiting).to(locations.device)
    _take(Places(*(x[:, columns] for x in candidates)), waiting, taken, found)
    for box in waiting:
        if box not in found:
            _take(everywhere(int(box)), np.array([box]), taken, found)
    added = locations.new_tensor([list(found.values()), list(found)])
    locations, order = torch.cat((locations, added[0])).sort()
    return locations, torch.cat((gt_index, added[1]))[order]


def _take(places: Places, boxes: np.ndarray, taken: set[int], found: dict[int, int]) -> None:
    """Let boxes, the columns of `places`, take places from the best pair on."""
    location, iou, is_inside, distance, exists = (x.cpu().numpy() for x in places)
    _, column = (index[exists] for index in np.indices(location.shape))
    keys = (column, location[exists], distance[exists], -iou[exists], ~is_inside[exists])
    order = np.lexsort(keys)  # the last key is the first to sort by
    pairs = zip(boxes[column[order]].tolist(), location[exists][order].tolist())
    for box, place in pairs:
        if box not in found and place not in taken:
            found[box] = place
            taken.add(place)
