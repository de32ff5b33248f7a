"""Of several boxes that claim a location, the one that gets it."""

import torch

from vfnet.modeling.matching.claims import best_claims


def test_the_highest_value_wins_and_of_equal_ones_the_first():
    location = torch.tensor([7, 2, 7, 2, 5])
    box = torch.tensor([0, 1, 2, 3, 4])
    value = torch.tensor([1.0, 3.0, 2.0, 3.0, -9.0])
    locations, boxes = best_claims(location, box, value)
    assert locations.tolist() == [2, 5, 7]
    assert boxes.tolist() == [1, 4, 2]


def test_nothing_claimed_is_nothing_won():
    none = torch.zeros(0, dtype=torch.int64)
    locations, boxes = best_claims(none, none, torch.zeros(0))
    assert len(locations) == len(boxes) == 0
