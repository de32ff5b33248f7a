"""Losses of deltas by BBOX_REG_LOSS_TYPE, by arithmetic on paper."""

import math

import pytest
import torch

from vfnet.errors import UserError
from vfnet.modeling.losses.box_deltas import build_delta_loss

ANCHOR = torch.tensor([[0.0, 0, 10, 10]])


def loss(name, deltas, boxes, beta=0.0, weights=(1.0, 1.0, 1.0, 1.0)):
    compare = build_delta_loss(
        name,
        prefix="MODEL.X",
        weights=weights,
        smooth_l1_beta=beta,
        balanced_l1=(0.5, 1.5, 1.0),
    )
    return compare(torch.tensor([deltas]), ANCHOR, torch.tensor([boxes])).item()


def test_smooth_l1_compares_deltas():
    # The box lies 2 to the right and is twice as high: deltas 0.2, 0.5, 0, ln 2.
    box = [2.0, 0, 12, 20]
    assert loss("smooth_l1", [0.0] * 4, box) == pytest.approx(0.2 + 0.5 + math.log(2))
    assert loss("smooth_l1", [0.2, 0.5, 0, math.log(2)], box) == pytest.approx(0, abs=1e-6)
    # Below beta half the square by beta.
    half_square = 0.5 * (0.2**2 + 0.5**2 + math.log(2) ** 2)
    assert loss("smooth_l1", [0.0] * 4, box, beta=1.0) == pytest.approx(half_square)
    assert loss("smooth_l1", [0.0] * 4, box, weights=(10.0, 10, 5, 5)) == pytest.approx(
        10 * 0.7 + 5 * math.log(2)
    )


def test_balanced_l1_compares_deltas():
    # Of one difference x below beta: alpha / b (b x + 1) ln(b x + 1) - alpha x, b = e^3 - 1.
    b, x = math.exp(3) - 1, 0.2
    expected = 0.5 / b * (b * x + 1) * math.log(b * x + 1) - 0.5 * x
    assert loss("balanced_l1", [0.0] * 4, [2.0, 0, 12, 10]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["giou", "diou", "ciou"])
def test_losses_of_boxes_compare_what_the_deltas_mean(name):
    assert loss(name, [0.5, 0, 0, 0], [5.0, 0, 15, 10]) == pytest.approx(0, abs=1e-5)
    # Without an overlap a loss of 1 - IoU has no slope; these are above 1.
    assert loss(name, [3.0, 0, 0, 0], [0.0, 0, 10, 10]) > 1


def test_giou_by_hand():
    # Half a box further: 50 of 150 pixels, and the hull is full.
    assert loss("giou", [0.5, 0, 0, 0], [0.0, 0, 10, 10]) == pytest.approx(2 / 3, rel=1e-5)


def test_widths_and_heights_of_boxes_are_bounded():
    for size in (-80.0, 80.0):
        assert math.isfinite(loss("giou", [0.0, 0, size, size], [0.0, 0, 10, 10]))


def test_no_positive_costs_nothing():
    compare = build_delta_loss(
        "smooth_l1",
        prefix="",
        weights=(1.0,) * 4,
        smooth_l1_beta=0.0,
        balanced_l1=(0.5, 1.5, 1.0),
    )
    assert compare(*(torch.zeros(0, 4),) * 3).item() == 0


def test_another_name_is_an_error():
    with pytest.raises(UserError, match="MODEL.X.BBOX_REG_LOSS_TYPE must be .* got 'l2'"):
        loss("l2", [0.0] * 4, [0.0, 0, 10, 10])
