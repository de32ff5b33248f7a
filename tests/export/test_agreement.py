"""When a file counts as the detector: pairs of detections, and what rounding may decide."""

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances

from tests.export.detectors import tiny_graph, write_pictures
from vfnet.errors import UserError
from vfnet.export.agreement import Agreement, RawOutput, check_pictures, compare
from vfnet.export.exported import ExportedDetector
from vfnet.export.selection import SelectionRule
from vfnet.export.write import ExportOptions, describe

RULE = SelectionRule(False, 0.05, 100, 0.6, 3)


def detections(*rows):
    """Instances of (x1, y1, x2, y2, score, class)."""
    table = torch.tensor(rows, dtype=torch.float32).view(-1, 6)
    return Instances(
        (100, 100),
        pred_boxes=Boxes(table[:, :4]),
        scores=table[:, 4],
        pred_classes=table[:, 5].long(),
    )


FIRST, SECOND = (0, 0, 10, 10, 0.9, 1), (50, 50, 90, 90, 0.9, 1)


def test_equal_scores_may_change_places():
    agreement = compare(detections(FIRST, SECOND), detections(SECOND, FIRST), RULE)
    assert agreement == Agreement(compared=2)
    assert agreement.holds


def test_pairs_are_compared_in_pixels_and_scores():
    moved = (0.05, 0, 10, 10, 0.8995, 1)
    agreement = compare(detections(moved, SECOND), detections(FIRST, SECOND), RULE)
    assert agreement.boxes == pytest.approx(0.05)
    assert agreement.scores == pytest.approx(5e-4, rel=1e-2)
    assert agreement.holds
    far = compare(detections((0.2, 0, 10, 10, 0.9, 1)), detections(FIRST), RULE)
    assert not far.holds and far.boxes == pytest.approx(0.2)


def test_another_class_is_no_pair_and_a_lonely_detection_is_missing():
    other_class = (*FIRST[:5], 0)
    assert compare(detections(other_class), detections(FIRST), RULE).missing == 2
    assert compare(detections(), detections(FIRST), RULE).missing == 1
    assert compare(detections(), detections(), RULE) == Agreement(compared=0)


@pytest.mark.parametrize("place", [0, 4])
def test_what_is_no_number_has_no_pair(place):
    broken = [*FIRST]
    broken[place] = float("nan")
    assert compare(detections(broken, SECOND), detections(FIRST, SECOND), RULE).missing == 2


@pytest.mark.parametrize(
    "alone, others",
    [
        ((20, 20, 30, 30, 0.0505, 1), [FIRST]),  # at the threshold of scores
        ((20, 20, 30, 30, 0.4995, 1), [FIRST, SECOND, (70, 0, 80, 9, 0.5, 0)]),  # the last place
        ((0, 0, 10, 6.003, 0.7, 1), [FIRST]),  # overlaps by 0.6
    ],
)
def test_what_rounding_decides_is_not_missing(alone, others):
    agreement = compare(detections(*others, alone), detections(*others), RULE)
    assert agreement == Agreement(compared=len(others))


# Two that suppress each other, by an IoU of 0.8, and scores that rounding may exchange.
ONE, OTHER = (0, 0, 10, 10, 0.9, 1), (0, 0, 10, 8, 0.90001, 1)
# Suppressed by the other one alone, by an IoU of 0.675.
THIRD = (0, 2.6, 10, 8, 0.5, 1)


def locations_of(*rows):
    of_class = torch.tensor([[row[4] if row[5] == k else 0 for k in range(3)] for row in rows])
    return RawOutput(of_class, torch.tensor([row[:4] for row in rows], dtype=torch.float32))


def test_of_two_that_suppress_each_other_rounding_chooses():
    found, expected = detections(ONE, SECOND), detections(OTHER, SECOND)
    assert not compare(found, expected, RULE).holds
    known = locations_of(ONE, OTHER, SECOND)
    assert compare(found, expected, RULE, known) == Agreement(compared=2)
    # And what only one of them suppresses.
    found, known = detections(ONE, SECOND, THIRD), locations_of(ONE, OTHER, SECOND, THIRD)
    assert compare(found, expected, RULE, known) == Agreement(compared=3)


@pytest.mark.parametrize(
    "wrong", [(0, 0, 10, 9.5, 0.9, 1), (0, 0, 10, 10, 0.902, 1), (0, 0, 10, 10, 0.9, 0)]
)
def test_what_no_location_of_the_detector_has_stands_for_none(wrong):
    known = locations_of(ONE, OTHER, SECOND)
    assert not compare(detections(wrong, SECOND), detections(OTHER, SECOND), RULE, known).holds


def test_one_of_a_clearly_lower_score_stands_for_none():
    low = (*ONE[:4], 0.8, 1)
    known = locations_of(low, OTHER, SECOND)
    assert not compare(detections(low, SECOND), detections(OTHER, SECOND), RULE, known).holds


def fake_file(graph, cfg, shift):
    """A file that gives what the graph gives, its boxes moved by `shift` pixels."""

    def run(images, sizes):
        with torch.no_grad():
            outputs = graph(torch.from_numpy(images), torch.from_numpy(sizes))
        arrays = dict(zip(("boxes", "scores", "classes", "number"), map(np.asarray, outputs)))
        return {**arrays, "boxes": arrays["boxes"] + np.float32(shift)}

    cfg.MODEL.WEIGHTS = __file__
    return ExportedDetector(describe(cfg, "atss", graph, ExportOptions("onnx")), run)


def test_a_file_that_differs_fails_by_the_name_of_the_picture(tmp_path):
    cfg, graph = tiny_graph("atss", tmp_path, TOPK_CANDIDATES_TEST=50)
    cfg.INPUT.MIN_SIZE_TEST = 64
    pictures = write_pictures(tmp_path, (64, 80), (90, 70))
    assert check_pictures(fake_file(graph, cfg, 0.0), graph, pictures).boxes < 1e-3
    assert check_pictures(fake_file(graph, cfg, 0.05), graph, pictures).holds
    with pytest.raises(
        UserError, match=r"differs .* 2 of 2 pictures, most on .*picture\d.png: boxes by 0\.[23]"
    ):
        check_pictures(fake_file(graph, cfg, 0.25), graph, pictures)
