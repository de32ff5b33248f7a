"""Of several boxes that claim a location, the one that gets it."""

from torch import Tensor


def best_claims(location: Tensor, gt_index: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Keep the claim of the highest value for each location; of equal values, the first.

    Args:
        location, gt_index: (C,) int64, what is claimed and by which box.
        value: (C,).

    Returns:
        locations, ascending, each once, and their boxes: (P,) int64 both.
    """
    # Two stable sorts: by location, within it by descending value, within that as they came.
    order = value.argsort(descending=True, stable=True)
    order = order[location[order].argsort(stable=True)]
    location, gt_index = location[order], gt_index[order]
    first = location.diff(prepend=location.new_tensor([-1])) != 0
    return location[first], gt_index[first]


def best_open_claims(
    location: Tensor, gt_index: Tensor, value: Tensor, ignored: Tensor | None
) -> tuple[Tensor, Tensor]:
    """`best_claims` of all locations but those where `ignored`, bool, is True; None: of all."""
    if ignored is not None:
        is_open = ~ignored[location]
        location, gt_index, value = location[is_open], gt_index[is_open], value[is_open]
    return best_claims(location, gt_index, value)
