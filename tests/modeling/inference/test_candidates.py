import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vfnet.errors import UserError
from vfnet.modeling.box_coding import distances_to_boxes
from vfnet.modeling.inference import candidates
from vfnet.modeling.inference.candidates import (
    NonFiniteDetectionsError,
    best_locations,
    best_of_groups,
    best_pairs,
    build_candidate_rule,
    choose_candidates,
    ranks,
)
from vfnet.modeling.locations import flatten_levels, level_numbers


def one_group(scores):
    return torch.zeros(len(scores), dtype=torch.int64)


def test_pairs_are_the_best_location_and_class_pairs_above_the_threshold():
    scores = torch.tensor([[0.9, 0.06, 0.05], [0.5, 0.7, 0.01], [0.04, 0.02, 0.03]])
    location, label, score = best_pairs(scores, one_group(scores), score_threshold=0.05, topk=3)
    assert location.tolist() == [0, 1, 1]
    assert label.tolist() == [0, 0, 1]
    assert score.tolist() == pytest.approx([0.9, 0.5, 0.7])


def test_locations_come_first_and_bring_all_their_classes():
    scores = torch.tensor([[0.9, 0.06, 0.05], [0.5, 0.7, 0.01], [0.6, 0.65, 0.6]])
    location, label, score = best_locations(scores, one_group(scores), 0.05, topk=2)
    found = list(zip(location.tolist(), label.tolist()))
    assert found == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert score.tolist() == [scores[pair].item() for pair in found]


def test_candidate_rules_of_few_locations_agree():
    scores = torch.rand(20, 4)
    for left, right in zip(
        best_pairs(scores, one_group(scores), 0.3, 100),
        best_locations(scores, one_group(scores), 0.3, 100),
    ):
        assert torch.equal(left, right)


def test_a_factor_ranks_locations_but_the_threshold_meets_the_score_alone():
    """The score 0.06 passes 0.05 though 0.006 is what becomes of it; the topk differ by rule."""
    scores = torch.tensor([[0.06, 0.01], [0.9, 0.8], [0.5, 0.04]])
    factor = torch.tensor([0.1, 0.2, 0.8])
    location, label, score = best_pairs(scores, one_group(scores), 0.05, 100, factor=factor)
    assert list(zip(location.tolist(), label.tolist())) == [(0, 0), (1, 0), (1, 1), (2, 0)]
    assert score.tolist() == pytest.approx([0.006, 0.18, 0.16, 0.4])

    location, _, score = best_pairs(scores, one_group(scores), 0.05, 2, factor=factor)
    assert location.tolist() == [1, 1]  # 0.9 and 0.8: the factor comes later
    location, label, score = best_locations(scores, one_group(scores), 0.05, 1, factor=factor)
    assert (location.tolist(), label.tolist()) == ([2], [0])  # 0.4 is more than 0.18
    assert score.tolist() == pytest.approx([0.4])


def test_a_rank_counts_the_better_values_of_the_same_group():
    values = torch.tensor([0.5, 0.9, 0.5, 0.7, 0.1, 0.9])
    groups = torch.tensor([0, 2, 0, 0, 2, 2])
    # Of equal values the first has the better rank.
    assert ranks(values, groups).tolist() == [1, 0, 2, 0, 2, 1]
    assert ranks(values[:0], groups[:0]).tolist() == []


@pytest.mark.parametrize("topk", [1, 7, 1000])
def test_the_best_of_many_are_found_as_those_of_few(monkeypatch, topk):
    values = torch.rand(300)
    groups = torch.randint(4, (300,)).sort().values * 2  # every other one has none
    few = best_of_groups(values, groups, topk)
    monkeypatch.setattr(candidates, "FEW", 0)
    assert torch.equal(best_of_groups(values, groups, topk), few)
    assert len(few) == sum(min(topk, n) for n in torch.bincount(groups).tolist())
    assert best_of_groups(values[:0], groups[:0], topk).tolist() == []


@pytest.mark.parametrize("name", ["pair", "location"])
@pytest.mark.parametrize("topk", [3, 1000])
def test_all_images_and_levels_at_once_are_each_of_them_alone(name, topk):
    sizes, image_sizes, classes = [(6, 7), (3, 4), (1, 1)], [(45, 50), (30, 56), (48, 20)], 5
    generator = torch.Generator().manual_seed(0)

    def levels(channels):
        return [torch.rand(3, channels, *size, generator=generator) for size in sizes]

    scores, distances = levels(classes), [level * 40 for level in levels(4)]
    points = [torch.rand(h * w, 2, generator=generator) * 50 for h, w in sizes]
    rule = build_candidate_rule(name, 0.4, topk, prefix="MODEL.X")
    together = choose_candidates(
        flatten_levels(scores),
        distances_to_boxes(torch.cat(points).repeat(3, 1), flatten_levels(distances)),
        level_numbers([h * w for h, w in sizes], torch.device("cpu")),
        image_sizes,
        rule,
    )
    assert len(together) == 3
    for i, (found, (height, width)) in enumerate(zip(together, image_sizes)):
        expected = []
        for level_scores, level_distances, level_points in zip(scores, distances, points):
            rows = level_scores[i].flatten(1).T
            location, label, score = rule(rows, one_group(rows))
            boxes = distances_to_boxes(level_points, level_distances[i].flatten(1).T)[location]
            for box, k, s in zip(boxes.tolist(), label.tolist(), score.tolist()):
                x1, x2 = (min(max(x, 0), width) for x in box[::2])
                y1, y2 = (min(max(y, 0), height) for y in box[1::2])
                if x1 < x2 and y1 < y2:
                    expected.append([x1, y1, x2, y2, k, s])
        assert len(expected) > 5
        actual = torch.cat((found.boxes, found.classes[:, None], found.scores[:, None]), dim=1)
        torch.testing.assert_close(actual, torch.tensor(expected))


def test_an_image_without_candidates_has_none():
    scores = torch.tensor([[0.1], [0.9]])  # of two images with one location
    none, one = choose_candidates(
        scores,
        torch.tensor([[3.0, 3.0, 5.0, 5.0]] * 2),
        torch.zeros(1, dtype=torch.int64),
        [(8, 8), (8, 8)],
        build_candidate_rule("pair", 0.5, 10, prefix="MODEL.X"),
    )
    assert none.boxes.shape == (0, 4)
    assert none.scores.shape == none.classes.shape == (0,)
    assert one.boxes.tolist() == [[3, 3, 5, 5]]


@pytest.mark.parametrize("rule", ["pair", "location"])
@pytest.mark.parametrize("topk, few", [(10, candidates.FEW), (1, candidates.FEW), (1, 0)])
@pytest.mark.parametrize("score, side", [(1.0, math.nan), (1.0, math.inf), (math.nan, 4.0)])
def test_what_is_not_finite_raises_instead_of_being_left_out(
    monkeypatch, rule, topk, few, score, side
):
    monkeypatch.setattr(candidates, "FEW", few)
    with pytest.raises(NonFiniteDetectionsError, match="1 of . candidates"):
        choose_candidates(
            torch.tensor([[0.9, 0.1], [0.2, score]]),
            torch.tensor([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, side]]),
            torch.zeros(2, dtype=torch.int64),
            [(8, 8)],
            build_candidate_rule(rule, 0.5, topk, prefix="MODEL.X"),
        )


def test_an_unknown_rule_is_an_error():
    with pytest.raises(UserError, match="MODEL.X.CANDIDATE_TEST must be .* got 'best'"):
        build_candidate_rule("best", 0.05, 1000, prefix="MODEL.X")


class Operations(TorchDispatchMode):
    """Counts the operations that compute; views and splits are free."""

    number = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        self.number += not function.is_view
        return out


@pytest.mark.parametrize("name", ["pair", "location"])
def test_more_images_take_no_more_operations(name):
    def operations(n):
        with Operations() as seen:
            choose_candidates(
                torch.rand(n * 9, 3),
                torch.rand(n * 9, 4),
                torch.arange(9) // 4,
                [(20, 20)] * n,
                build_candidate_rule(name, 0.2, 2, prefix="MODEL.X"),
            )
        return seen.number

    assert operations(2) == operations(50)
