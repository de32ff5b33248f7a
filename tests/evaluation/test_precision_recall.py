"""Precision and recall over the score, counted by hand."""

import math

import numpy as np
import pytest

from vfnet.evaluation.precision_recall import (
    ClassCurve,
    class_curves,
    class_scores,
    precision_recall,
)

CATEGORIES = [{"id": 3, "name": "cell"}, {"id": 7, "name": "plate"}]


def truth(*boxes):
    """Annotations (image, class, box as x, y, width, height[, crowd]) of images 1 and 2."""
    annotations = [
        {
            **{"id": number, "image_id": image, "category_id": category, "bbox": box},
            **{"area": box[2] * box[3], "iscrowd": int(bool(crowd))},
        }
        for number, (image, category, box, *crowd) in enumerate(boxes, start=1)
    ]
    images = [{"id": 1, "width": 100, "height": 100}, {"id": 2, "width": 100, "height": 100}]
    return {"images": images, "categories": CATEGORIES, "annotations": annotations}


def found(*rows):
    return [dict(zip(("image_id", "category_id", "bbox", "score"), row)) for row in rows]


BOX, OTHER, CROWD = [10, 10, 20, 20], [60, 60, 20, 20], [0, 50, 40, 40]
# Cells: two in image 1, one in image 2, a crowd. Plates: one.
TRUTH = truth((1, 3, BOX), (1, 3, OTHER), (2, 3, BOX), (2, 3, CROWD, True), (2, 7, BOX))


def test_each_score_has_the_precision_and_recall_of_what_it_keeps():
    scores = np.array([0.5, 0.9, 0.7, 0.6])
    is_true = np.array([False, True, False, True])
    scores, precision, recall = precision_recall(scores, is_true, num_gt=4)
    assert scores.tolist() == [0.9, 0.7, 0.6, 0.5]
    assert precision.tolist() == [1, 1 / 2, 2 / 3, 2 / 4]
    assert recall.tolist() == [1 / 4, 1 / 4, 2 / 4, 2 / 4]


def test_detections_that_tie_are_kept_together():
    scores = np.array([0.9, 0.9, 0.4])
    curve = precision_recall(scores, np.array([True, False, True]), num_gt=2)
    assert [part.tolist() for part in curve] == [[0.9, 0.4], [1 / 2, 2 / 3], [1 / 2, 1]]


def test_classes_are_matched_by_iou_once_for_each_object_and_crowds_do_not_count():
    results = found(
        (1, 3, BOX, 0.9),  # true
        (1, 3, BOX, 0.8),  # the same object again: false
        (2, 3, [10, 10, 20, 14], 0.7),  # IoU 0.7: true
        (2, 3, [0, 50, 40, 40], 0.6),  # in the crowd: neither
        (1, 3, [60, 60, 20, 9], 0.5),  # IoU 0.45: false
        (1, 7, BOX, 0.4),  # a plate of another image: false
    )
    cell, plate = class_curves(TRUTH, results)
    assert (cell.name, cell.num_gt, plate.name, plate.num_gt) == ("cell", 3, "plate", 1)
    assert cell.scores.tolist() == [0.9, 0.8, 0.7, 0.5]
    assert cell.precision.tolist() == [1, 1 / 2, 2 / 3, 2 / 4]
    np.testing.assert_allclose(cell.recall, [1 / 3, 1 / 3, 2 / 3, 2 / 3])
    # COCO's 101 recalls: 34 up to 1/3 with precision 1, 33 up to 2/3 with 2/3, then none.
    assert cell.ap == pytest.approx((34 + 33 * 2 / 3) / 101)
    assert (plate.precision.tolist(), plate.recall.tolist(), plate.ap) == ([0], [0], 0)


def test_a_higher_iou_makes_a_match_a_miss():
    results = found((2, 3, [10, 10, 20, 14], 0.7))
    assert class_curves(TRUTH, results, iou=0.5)[0].recall.tolist() == [1 / 3]
    assert class_curves(TRUTH, results, iou=0.75)[0].recall.tolist() == [0]


def test_detections_beyond_those_that_count_are_left_out():
    results = found((1, 3, BOX, 0.9), (1, 3, OTHER, 0.8))
    assert class_curves(TRUTH, results, detections_per_image=1)[0].scores.tolist() == [0.9]


def test_without_detections_or_ground_truth_curves_are_empty():
    curves = class_curves(truth((1, 3, BOX)), [])
    assert [len(curve.scores) for curve in curves] == [0, 0]
    assert [curve.num_gt for curve in curves] == [1, 0]
    assert curves[0].ap == 0 and math.isnan(curves[1].ap)


def test_curves_are_those_of_the_classes_that_are_asked_for():
    def names(**options):
        return [curve.name for curve in class_curves(TRUTH, [], **options)]

    assert names() == ["cell", "plate"]
    assert names(category_ids=[7]) == ["plate"]


def test_the_best_score_has_the_highest_f1():
    # F1: 2 * 1 * .2 / 1.2 = .33, 2 * .8 * .6 / 1.4 = .69, 2 * .5 * .7 / 1.2 = .58
    parts = (np.array(part) for part in ([0.9, 0.6, 0.3], [1, 0.8, 0.5], [0.2, 0.6, 0.7]))
    assert ClassCurve("a", 10, *parts, 0.5).best_score() == 0.6
    zero = np.zeros(2)
    assert math.isnan(ClassCurve("a", 10, np.array([0.9, 0.6]), zero, zero, 0.0).best_score())


def test_classes_have_their_ap_by_size():
    results = found(
        (1, 3, BOX, 0.9),
        (1, 3, [60, 60, 20, 15], 0.8),  # IoU 0.75: true for 6 of the 10 IoUs, to 0.75
        (2, 3, [0, 0, 9, 9], 0.7),  # nothing
    )
    cell, plate = class_scores(TRUTH, results)
    assert (cell.name, cell.num_gt, plate.name, plate.num_gt) == ("cell", 3, "plate", 1)
    # Of 101 recalls, two of three objects reach 67, one 34.
    assert cell.ap50 == pytest.approx(67 / 101)
    assert cell.ap == pytest.approx((6 * 67 + 4 * 34) / 1010)
    assert cell.by_size[0] == pytest.approx(cell.ap)
    assert all(math.isnan(value) for value in (*cell.by_size[1:], *plate.by_size[1:]))
    assert plate.ap == plate.by_size[0] == 0
