"""The oracle study: which predictions are replaced, and by what."""

import math

import pytest
import torch

from vfnet.errors import UserError
from vfnet.evaluation.oracle import KINDS, oracle_predictions
from vfnet.modeling.assignment import grid_points
from vfnet.modeling.head import HeadOutput
from vfnet.modeling.targets import Targets

# Two levels of 2 x 3 and 1 x 2 cells, so 8 locations an image; two images; three classes.
SIZES, STRIDES, NUM_IMAGES, NUM_CLASSES = ((2, 3), (1, 2)), (8, 16), 2, 3
POINTS = grid_points(SIZES, STRIDES, torch.device("cpu"))
# Location 4 of image 0 (level 0, row 1, column 1: the point 8, 8), location 7 of image 1 (level 1,
# column 1: the point 16, 0).
INDEX = torch.tensor([4, 8 + 7])
CLASSES = torch.tensor([2, 0])
# (level, image, row, column) of both.
PLACES = ((0, 0, 1, 1), (1, 1, 0, 1))
GT_BOXES = torch.tensor([[2.0, 4.0, 14.0, 12.0], [10.0, -4.0, 20.0, 6.0]])
# Around the points: 0, 4, 12, 12 has 80 of 12 x 8 in common with the first box, 0 in its 2 columns
# outside; -4, -10, 26, 10 holds the second box whole and leaves the image.
DISTANCES = torch.tensor([[8.0, 4.0, 4.0, 4.0], [20.0, 10.0, 10.0, 10.0]])
IOUS = (80 / (96 + 96 - 80), 100 / 600)


def make_targets(index=INDEX, classes=CLASSES, boxes=GT_BOXES):
    valid = torch.ones(NUM_IMAGES * len(POINTS), dtype=torch.bool)
    return Targets(index, classes, boxes, valid, torch.tensor(0))


def make_predictions(refined=True, distances=DISTANCES):
    """Random predictions, but for the detected boxes at the positive locations."""
    generator = torch.Generator().manual_seed(0)

    def levels(channels):
        shapes = [(NUM_IMAGES, channels, *size) for size in SIZES]
        return [torch.randn(shape, generator=generator) for shape in shapes]

    logits, initial = levels(NUM_CLASSES), [level.exp() for level in levels(4)]
    output = HeadOutput(logits, initial, [level.exp() for level in levels(4)] if refined else [])
    for (level, image, row, column), sides in zip(PLACES, distances):
        detected = output.refined_distances or output.distances
        detected[level][image, :, row, column] = sides
    return output


def at_positives(levels):
    return torch.stack([levels[level][i, :, row, column] for level, i, row, column in PLACES])


def background(levels):
    """Everything but the positive locations."""
    copies = [level.clone() for level in levels]
    for level, image, row, column in PLACES:
        copies[level][image, :, row, column] = 0
    return copies


def assert_equal(actual, expected):
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected):
        assert torch.equal(a, b)


def test_plain_replaces_nothing():
    predictions = make_predictions()
    assert oracle_predictions(predictions, POINTS, make_targets(), "plain") is predictions


@pytest.mark.parametrize("refined", [True, False])
def test_detected_boxes_become_the_ground_truth_at_positives_alone(refined):
    predictions = make_predictions(refined)
    replaced = oracle_predictions(predictions, POINTS, make_targets(), "gt_bbox")
    name, other = ("refined_distances", "distances")[:: 1 if refined else -1]
    # 8 - 2, 8 - 4, 14 - 8, 12 - 8 and 16 - 10, 0 + 4, 20 - 16, 6 - 0.
    expected = torch.tensor([[6.0, 4.0, 6.0, 4.0], [6.0, 4.0, 4.0, 6.0]])
    assert torch.equal(at_positives(getattr(replaced, name)), expected)
    assert_equal(background(getattr(replaced, name)), background(getattr(predictions, name)))
    assert_equal(getattr(replaced, other), getattr(predictions, other))
    assert_equal(replaced.logits, predictions.logits)


@pytest.mark.parametrize(
    "kind, scores", [("gt_cls", (1, 1)), ("gt_cls_iou", IOUS)], ids=["class", "iou"]
)
@pytest.mark.parametrize("refined", [True, False])
def test_the_ground_truth_class_gets_its_score_and_the_others_keep_theirs(kind, scores, refined):
    predictions = make_predictions(refined)
    replaced = oracle_predictions(predictions, POINTS, make_targets(), kind)
    expected = at_positives(predictions.logits)
    actual = at_positives(replaced.logits)
    for row, (label, score) in enumerate(zip(CLASSES, scores)):
        assert actual[row, label].isfinite()
        assert actual[row, label].sigmoid().item() == pytest.approx(score, rel=0, abs=1.1e-6)
        expected[row, label] = actual[row, label]
    assert torch.equal(actual, expected)
    assert_equal(background(replaced.logits), background(predictions.logits))
    assert_equal(replaced.distances, predictions.distances)
    assert_equal(replaced.refined_distances, predictions.refined_distances)


@pytest.mark.parametrize("kind", ["gt_cls", "gt_cls_iou"])
def test_the_other_classes_of_positives_become_0_on_request(kind):
    predictions = make_predictions()
    kept = oracle_predictions(predictions, POINTS, make_targets(), kind)
    alone = oracle_predictions(predictions, POINTS, make_targets(), f"{kind}_only")
    expected = torch.full((2, NUM_CLASSES), 1e-6)
    for row, label in enumerate(CLASSES):
        expected[row, label] = at_positives(kept.logits)[row, label].sigmoid()
    torch.testing.assert_close(at_positives(alone.logits).sigmoid(), expected, rtol=0, atol=1e-9)
    assert_equal(background(alone.logits), background(predictions.logits))


def test_scores_are_written_as_logits():
    # 6 x 8 of the first box's 12 x 8, and all of the second box.
    predictions = make_predictions(distances=torch.tensor([[6, 4, 0, 4], [6, 4, 4, 6]]))
    replaced = at_positives(
        oracle_predictions(predictions, POINTS, make_targets(), "gt_cls_iou").logits
    )
    # log(0.5 / 0.5) and log((1 - 1e-6) / 1e-6)
    assert replaced[0, 2].item() == pytest.approx(0.0, abs=1e-6)
    assert replaced[1, 0].item() == pytest.approx(math.log(1e6), abs=0.1)


def test_a_box_without_area_has_the_smallest_iou_of_training_and_not_0():
    predictions = make_predictions(distances=torch.zeros(2, 4))
    replaced = at_positives(
        oracle_predictions(predictions, POINTS, make_targets(), "gt_cls_iou").logits
    )
    scores = torch.stack([replaced[0, 2], replaced[1, 0]]).sigmoid()
    torch.testing.assert_close(scores, torch.full((2,), 1e-6), rtol=1e-3, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_ground_truths_that_no_location_learns_change_nothing(kind):
    predictions = make_predictions()
    empty = torch.zeros(0, dtype=torch.int64)
    nothing = make_targets(empty, empty, torch.zeros(0, 4))
    replaced = oracle_predictions(predictions, POINTS, nothing, kind)
    for actual, expected in zip(replaced, predictions):
        assert_equal(actual, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_given_are_not_changed(kind):
    predictions = make_predictions()
    oracle_predictions(predictions, POINTS, make_targets(), kind)
    for actual, expected in zip(predictions, make_predictions()):
        assert_equal(actual, expected)


def test_unknown_kinds_are_named():
    with pytest.raises(UserError, match="gt_bbox.*got 'gt_ctr'"):
        oracle_predictions(make_predictions(), POINTS, make_targets(), "gt_ctr")
