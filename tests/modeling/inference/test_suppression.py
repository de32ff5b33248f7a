import math

import pytest
import torch

from vfnet.errors import UserError
from vfnet.modeling.inference.suppression import build_suppression, nms, soft_nms

# Two boxes of IoU 1/2 and one apart.
BOXES = torch.tensor([[0.0, 0, 4, 3], [0.0, 1, 4, 4], [50.0, 50, 60, 60]])
SCORES = torch.tensor([0.9, 0.8, 0.3])


def test_nms_suppresses_within_a_class_above_the_threshold():
    same, other = torch.zeros(3, dtype=torch.int64), torch.tensor([0, 1, 0])
    assert nms(BOXES, SCORES, same, 0.45, 100)[0].tolist() == [0, 2]
    assert nms(BOXES, SCORES, same, 0.55, 100)[0].tolist() == [0, 1, 2]
    assert nms(BOXES, SCORES, other, 0.45, 100)[0].tolist() == [0, 1, 2]
    assert nms(BOXES, SCORES, other, 0.45, 2)[0].tolist() == [0, 1]


def test_linear_soft_nms_by_hand():
    kept, scores = soft_nms(BOXES, SCORES, torch.zeros(3), 0.4, 100, "linear")
    assert kept.tolist() == [0, 1, 2]
    assert scores.tolist() == pytest.approx([0.9, 0.8 * 0.5, 0.3])
    kept, scores = soft_nms(BOXES, SCORES, torch.zeros(3), 0.6, 100, "linear")
    assert scores.tolist() == pytest.approx(SCORES.tolist())


def test_gaussian_soft_nms_by_hand():
    kept, scores = soft_nms(BOXES, SCORES, torch.zeros(3), 0.6, 100, "gaussian", sigma=0.5)
    decayed = 0.8 * math.exp(-0.25 / 0.5)
    assert kept.tolist() == [0, 1, 2]
    assert scores.tolist() == pytest.approx([0.9, decayed, 0.3])


def test_soft_nms_orders_by_decayed_score_and_drops_what_falls_below_the_least():
    boxes = torch.tensor([[0.0, 0, 4, 4], [0.0, 0, 4, 4], [9.0, 9, 12, 12], [0.0, 0, 4, 3]])
    scores = torch.tensor([0.9, 0.8, 0.3, 0.7])
    kept, decayed = soft_nms(boxes, scores, torch.zeros(4), 0.5, 100, "linear", min_score=0.001)
    # The twin of the best box decays to 0 and is dropped; IoU 3/4 leaves a quarter of 0.7.
    assert kept.tolist() == [0, 2, 3]
    assert decayed.tolist() == pytest.approx([0.9, 0.3, 0.175])


def test_soft_nms_leaves_other_classes_alone_and_stops_at_the_limit():
    kept, scores = soft_nms(BOXES, SCORES, torch.tensor([0, 1, 0]), 0.1, 2, "linear")
    assert kept.tolist() == [0, 1]
    assert scores.tolist() == pytest.approx([0.9, 0.8])


@pytest.mark.parametrize("name", ["nms", "soft_nms_linear", "soft_nms_gaussian"])
def test_below_0_all_are_kept_as_detectron2_has_it(name):
    suppress = build_suppression(name, 0.6, -1, 0.5, 0.001, prefix="MODEL.X")
    assert suppress(BOXES, SCORES, torch.zeros(3, dtype=torch.int64))[0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", ["nms", "soft_nms_linear", "soft_nms_gaussian"])
def test_no_candidate_gives_no_detection(name):
    suppress = build_suppression(name, 0.6, 100, 0.5, 0.001, prefix="MODEL.X")
    kept, scores = suppress(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    assert len(kept) == len(scores) == 0
    assert kept.dtype == torch.int64


def test_an_unknown_name_is_an_error():
    with pytest.raises(UserError, match="MODEL.X.NMS_TYPE must be .* got 'matrix'"):
        build_suppression("matrix", 0.6, 100, 0.5, 0.001, prefix="MODEL.X")


def test_soft_nms_without_a_least_score_takes_each_box_once():
    box = [0.0, 0.0, 10.0, 10.0]
    boxes = torch.tensor([box, box, box, [50.0, 50.0, 60.0, 60.0]])
    scores = torch.tensor([0.9, 0.8, 0.7, 0.0005])
    kept, decayed = soft_nms(boxes, scores, torch.zeros(4), 0.5, 10, min_score=0.0)
    assert sorted(kept.tolist()) == [0, 1, 2, 3]
    torch.testing.assert_close(decayed, torch.tensor([0.9, 0.0005, 0.0, 0.0]))
