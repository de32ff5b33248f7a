"""Boxes from deltas, distributions and distances, by arithmetic on paper."""

import math

import pytest
import torch

from vfnet.modeling.box_coding import (
    boxes_to_distances,
    deltas_to_boxes,
    distances_to_boxes,
    expected_distances,
    points_to_boxes,
    square_boxes,
)


def test_distances_there_and_back():
    points = torch.tensor([[10.0, 20.0], [0.0, 5.0]])
    distances = torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.5, -1.0, 2.0, 8.0]])
    boxes = distances_to_boxes(points, distances)
    assert boxes[0].tolist() == [9, 18, 13, 24]
    assert torch.equal(boxes_to_distances(points, boxes), distances)


def test_deltas_move_the_centre_by_sizes_and_scale_the_sides_by_exponents():
    """An anchor of 64 around (32, 32): dx = 1 is a tenth of 64, dw = 5 ln 2 doubles the width."""
    anchors = square_boxes(torch.tensor([[32.0, 32.0]]), torch.tensor([[32.0]]))
    deltas = torch.tensor([[1.0, -1.0, 5 * math.log(2), 0.0]])
    expected = [38.4 - 64, 25.6 - 32, 38.4 + 64, 25.6 + 32]
    assert deltas_to_boxes(deltas, anchors)[0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("raw, factor", [(1e4, 1000 / 16), (-1e4, 16 / 1000)])
def test_sides_change_by_a_bounded_factor_up_and_down(raw, factor):
    anchors = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    boxes = deltas_to_boxes(torch.tensor([[0.0, 0.0, raw, raw]]), anchors)
    assert (boxes[0, 2] - boxes[0, 0]).item() == pytest.approx(10 * factor, rel=1e-4)


def test_the_expected_distance_is_the_mean_of_the_bins():
    bins = torch.arange(3.0)
    even, sure = torch.zeros(3), torch.tensor([-1e4, -1e4, 0.0])
    found = expected_distances(torch.cat((even, sure, even, sure)), bins)
    assert found.tolist() == pytest.approx([1, 2, 1, 2])


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_the_expected_distance_is_float32_under_autocast(precision):
    logits = torch.randn(100, 4 * 17, generator=torch.Generator().manual_seed(0))
    wanted = expected_distances(logits, torch.arange(17.0))
    with torch.autocast("cpu", precision):
        found = expected_distances(logits, torch.arange(17.0))
    assert found.dtype == torch.float32
    assert torch.equal(found, wanted)


def test_points_make_a_box_of_their_means_and_standard_deviations():
    """0, 3 and 6 have the mean 3 and, unbiased, the standard deviation 3; 1, 1 and 1: 1 and 0."""
    points = torch.tensor([[0.0, 1.0], [3.0, 1.0], [6.0, 1.0]])
    assert points_to_boxes(points, torch.zeros(2)).tolist() == pytest.approx([0, 1, 6, 1])
    scaled = points_to_boxes(points, torch.tensor([math.log(2), 5.0]))
    assert scaled.tolist() == pytest.approx([-3, 1, 9, 1])


def test_points_that_fall_together_have_a_finite_gradient():
    points = torch.ones(9, 2, requires_grad=True)
    log_scales = torch.full((2,), 1e4, requires_grad=True)
    points_to_boxes(points, log_scales).sum().backward()
    assert points.grad.isfinite().all() and log_scales.grad.isfinite().all()
