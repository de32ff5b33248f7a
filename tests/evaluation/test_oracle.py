"""The oracle study: which predictions are replaced, and by what."""

import pytest
import torch

from vfnet.errors import UserError
from vfnet.evaluation.oracle import KINDS, oracle_centerness, oracle_replacement
from vfnet.modeling.matching.targets import Targets

# Two images of 8 locations, three classes. Positive are location 4 of the first image, at the point
# 8, 8, and location 7 of the second, at the point 16, 0.
NUM_LOCATIONS, NUM_CLASSES = 2 * 8, 3
INDEX = torch.tensor([4, 8 + 7])
CLASSES = torch.tensor([2, 0])
GT_BOXES = torch.tensor([[2.0, 4.0, 14.0, 12.0], [10.0, -4.0, 20.0, 6.0]])
# 0, 4, 12, 12 has 80 of 12 x 8 in common with the first box, 0 in its 2 columns outside; the other
# holds the second box whole and leaves the image.
DETECTED = torch.tensor([[0.0, 4.0, 12.0, 12.0], [-4.0, -10.0, 26.0, 10.0]])
IOUS = (80 / (96 + 96 - 80), 100 / 600)


def make_targets(index=INDEX, classes=CLASSES, boxes=GT_BOXES):
    valid = torch.ones(NUM_LOCATIONS, dtype=torch.bool)
    return Targets(index, classes, boxes, valid, torch.tensor(0), torch.full((2, 2), 64))


def make_predictions(detected=DETECTED):
    """Random scores and boxes, but for the detected boxes at the positive locations."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(NUM_LOCATIONS, NUM_CLASSES, generator=generator)
    boxes = torch.rand(NUM_LOCATIONS, 4, generator=generator)
    boxes[INDEX] = detected
    return scores, boxes


def background(predictions):
    """Everything but the positive locations."""
    copy = predictions.clone()
    copy[INDEX] = 0
    return copy


def test_plain_replaces_nothing():
    scores, boxes = make_predictions()
    replaced = oracle_replacement(scores, boxes, make_targets(), "plain")
    assert replaced[0] is scores and replaced[1] is boxes


def test_detected_boxes_become_the_ground_truth_at_positives_alone():
    predictions = make_predictions()
    scores, boxes = oracle_replacement(*predictions, make_targets(), "gt_bbox")
    assert torch.equal(boxes[INDEX], GT_BOXES)
    assert torch.equal(background(boxes), background(predictions[1]))
    assert torch.equal(scores, predictions[0])


@pytest.mark.parametrize(
    "kind, expected", [("gt_cls", (1, 1)), ("gt_cls_iou", IOUS)], ids=["class", "iou"]
)
def test_the_ground_truth_class_gets_its_score_and_the_others_keep_theirs(kind, expected):
    predictions = make_predictions()
    scores, boxes = oracle_replacement(*predictions, make_targets(), kind)
    kept = predictions[0].clone()
    for location, label, score in zip(INDEX, CLASSES, expected):
        assert scores[location, label].item() == pytest.approx(score, rel=0, abs=1.1e-6)
        kept[location, label] = scores[location, label]
    assert torch.equal(scores, kept)
    assert torch.equal(boxes, predictions[1])


@pytest.mark.parametrize("kind", ["gt_cls", "gt_cls_iou"])
def test_the_other_classes_of_positives_become_0_on_request(kind):
    predictions = make_predictions()
    kept, _ = oracle_replacement(*predictions, make_targets(), kind)
    alone, _ = oracle_replacement(*predictions, make_targets(), f"{kind}_only")
    expected = torch.zeros(2, NUM_CLASSES)
    for row, (location, label) in enumerate(zip(INDEX, CLASSES)):
        expected[row, label] = kept[location, label]
    assert torch.equal(alone[INDEX], expected)
    assert torch.equal(background(alone), background(predictions[0]))


def test_a_box_without_area_has_the_smallest_iou_of_training_and_not_0():
    predictions = make_predictions(detected=torch.tensor([[8.0, 8, 8, 8], [16, 0, 16, 0]]))
    scores, _ = oracle_replacement(*predictions, make_targets(), "gt_cls_iou")
    torch.testing.assert_close(scores[INDEX, CLASSES], torch.full((2,), 1e-6), rtol=1e-3, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_ground_truths_that_no_location_learns_change_nothing(kind):
    predictions = make_predictions()
    empty = torch.zeros(0, dtype=torch.int64)
    nothing = make_targets(empty, empty, torch.zeros(0, 4))
    replaced = oracle_replacement(*predictions, nothing, kind)
    assert all(torch.equal(*pair) for pair in zip(replaced, predictions))


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_given_are_not_changed(kind):
    predictions = make_predictions()
    oracle_replacement(*predictions, make_targets(), kind)
    assert all(torch.equal(*pair) for pair in zip(predictions, make_predictions()))


def test_unknown_kinds_are_named():
    with pytest.raises(UserError, match="gt_bbox.*got 'gt_ctr'"):
        oracle_replacement(*make_predictions(), make_targets(), "gt_ctr")


def test_centerness_is_replaced_at_the_positives_alone():
    """At the points (8, 8) and (16, 0); sides l, t, r, b are 6, 4, 6, 4 and 6, 4, 4, 6."""
    grid = torch.tensor([[x, y] for y in (0.0, 8.0) for x in (0.0, 8.0, 16.0)] + [[0.0, 0.0]] * 2)
    grid[4], grid[7] = torch.tensor([8.0, 8.0]), torch.tensor([16.0, 0.0])
    _, boxes = make_predictions()
    factor = torch.rand(NUM_LOCATIONS, generator=torch.Generator().manual_seed(1))
    expected = {"gt_ctr": (1.0, 4 / 6), "gt_ctr_iou": IOUS}
    for kind, values in expected.items():
        replaced = oracle_centerness(factor, boxes, grid, make_targets(), kind)
        assert replaced[INDEX].tolist() == pytest.approx(values)
        assert torch.equal(background(replaced), background(factor))
    for kind in ("plain_ctr", "gt_bbox_ctr", "gt_cls_ctr", "gt_cls_iou_ctr"):
        assert torch.equal(oracle_centerness(factor, boxes, grid, make_targets(), kind), factor)
