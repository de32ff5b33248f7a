"""What a graph chooses is what the eager path chooses, ties included."""

import pytest
import torch

from vfnet.export.selection import SelectionRule, best_mask, clip, detections
from vfnet.modeling.inference.candidates import (
    best_of_groups,
    build_candidate_rule,
    choose_candidates,
)
from vfnet.modeling.inference.suppression import nms
from vfnet.modeling.locations import level_numbers

COUNTS = [40, 12, 3]


def few_values(*shape, seed=0):
    """Scores of eleven values, so that most of them are tied."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 11, shape, generator=generator) / 10


@pytest.mark.parametrize("topk", [1, 7, 30, 31])
def test_of_equal_values_the_first_are_the_best(topk):
    values = few_values(4, 30)
    for row, mask in zip(values, best_mask(values, topk)):
        kept = best_of_groups(row, torch.zeros(30, dtype=torch.int64), topk)
        assert mask.nonzero().squeeze(1).tolist() == kept.tolist()


@pytest.mark.parametrize("topk", [5, 1000])
@pytest.mark.parametrize("with_factor", [False, True])
@pytest.mark.parametrize("candidates", ["pair", "location"])
def test_detections_are_those_of_the_eager_path_in_their_order(candidates, with_factor, topk):
    n, r, classes = 2, sum(COUNTS), 3
    scores = few_values(n, r, classes)
    factor = few_values(n, r, seed=1) if with_factor else None
    generator = torch.Generator().manual_seed(2)
    corners = torch.rand(n, r, 2, generator=generator) * 80 - 10
    boxes = torch.cat((corners, corners + torch.rand(n, r, 2, generator=generator) * 30), dim=2)
    sizes = torch.tensor([[60, 70], [70, 50]])

    chosen = choose_candidates(
        scores.flatten(0, 1),
        boxes.flatten(0, 1),
        level_numbers(COUNTS, torch.device("cpu")),
        [tuple(size) for size in sizes.tolist()],
        build_candidate_rule(candidates, 0.25, topk, prefix="MODEL.X"),
        None if factor is None else factor.flatten(),
    )
    rule = SelectionRule(candidates == "location", 0.25, topk, 0.5, 20)
    found = detections(scores, clip(boxes, sizes), factor, COUNTS, rule)
    for i, image in enumerate(chosen):
        kept, kept_scores = nms(*image, iou_threshold=0.5, max_detections=20)
        number = int(found.number[i])
        assert number == len(kept) > 5
        assert torch.equal(found.boxes[i, :number], image.boxes[kept])
        assert torch.equal(found.scores[i, :number], kept_scores)
        assert torch.equal(found.classes[i, :number], image.classes[kept])


def test_behind_the_last_detection_stand_zeros():
    rule = SelectionRule(False, 0.5, 10, 0.5, 4)
    scores = torch.tensor([[[0.1, 0.9], [0.2, 0.3]], [[0.1, 0.1], [0.1, 0.1]]])
    boxes = torch.tensor([[0.0, 0.0, 5.0, 5.0], [1.0, 1.0, 9.0, 9.0]]).expand(2, 2, 4)
    found = detections(scores, boxes, None, [2], rule)
    assert found.number.tolist() == [1, 0]
    assert found.classes.tolist() == [[1, -1, -1, -1], [-1] * 4]
    assert torch.equal(found.scores[0], torch.tensor([0.9, 0, 0, 0]))
    assert found.boxes[0, 1:].abs().max() == found.boxes[1].abs().max() == 0
