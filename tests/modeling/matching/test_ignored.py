"""Which locations lie in ignored regions, and what assignment makes of it."""

import pytest
import torch
from detectron2.structures import Boxes, Instances

from vfnet.modeling.matching.anchors import assign_anchors
from vfnet.modeling.matching.atss import atss_match
from vfnet.modeling.matching.fovea import fovea_match_batch
from vfnet.modeling.matching.ignored import in_ignored_regions
from vfnet.modeling.matching.max_iou import max_iou_match
from vfnet.modeling.matching.points import point_match_batch

from .test_atss import STRIDES, dense_atss, pyramid, random_boxes


def test_the_share_is_of_the_priors_own_area_and_regions_do_not_add_up():
    prior = torch.tensor([[0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 30.0, 10.0]])
    # 0.6 of the first prior by one region; 0.4 + 0.4 of the second by two.
    regions = torch.tensor([[0.0, 0.0, 6.0, 99.0], [20.0, 0.0, 24.0, 10.0], [26.0, 0, 30.0, 10.0]])
    nothing = torch.zeros(0, 4)
    ignored = in_ignored_regions([regions, nothing], prior, 0.5)
    assert ignored.tolist() == [True, False, False, False]
    assert in_ignored_regions([nothing, regions], prior, 0.3).tolist() == [False] * 2 + [True] * 2
    # Above the threshold, not at it.
    assert not in_ignored_regions([torch.tensor([[0.0, 0.0, 5.0, 10.0]])], prior, 0.5).any()
    assert in_ignored_regions([nothing, nothing], prior, 0.5) is None
    assert in_ignored_regions([], prior, 0.5) is None


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_atss_takes_the_next_candidates_as_mmdets_assigner(seed, share):
    """There an ignored anchor is infinitely far: https://github.com/open-mmlab/mmdetection,
    mmdet/core/bbox/assigners/atss_assigner.py."""
    boxes = random_boxes(14, 160, 200, torch.Generator().manual_seed(seed))
    feature_sizes, valid_sizes = pyramid(192, 256), pyramid(160, 200)
    locations = sum(height * width for height, width in feature_sizes)
    ignored = torch.rand(locations, generator=torch.Generator().manual_seed(seed)) < share
    where = {"valid_sizes": valid_sizes, "ignored": ignored}
    actual = atss_match(boxes, feature_sizes, STRIDES, **where)
    expected = dense_atss(boxes, feature_sizes, STRIDES, **where)
    assert torch.equal(actual[0], expected[0])
    assert torch.equal(actual[1], expected[1])
    assert not ignored[actual[0]].any()
    if not share:
        plain = atss_match(boxes, feature_sizes, STRIDES, valid_sizes=valid_sizes)
        assert torch.equal(actual[0], plain[0]) and torch.equal(actual[1], plain[1])


@pytest.mark.parametrize("match", [fovea_match_batch, point_match_batch])
def test_the_other_rules_leave_out_what_is_ignored(match):
    boxes = random_boxes(20, 160, 200, torch.Generator().manual_seed(1))
    sizes = pyramid(160, 200)
    more = {}
    if match is fovea_match_batch:
        more["scale_ranges"] = [(1, 64), (32, 128), (64, 256), (128, 512), (256, 2048)]
    arguments = (boxes, torch.zeros(20, dtype=torch.int64), torch.tensor([sizes]), sizes, STRIDES)
    every, _ = match(*arguments, **more)
    ignored = torch.zeros(sum(height * width for height, width in sizes), dtype=torch.bool)
    ignored[every[::2]] = True
    found, _ = match(*arguments, **more, ignored=ignored)
    assert torch.equal(found, every[1::2])


def test_a_box_whose_anchors_are_all_ignored_is_not_learnt_by_the_others():
    """By mmdet's rule for low overlaps every anchor would be the best of a box that none meets."""
    anchors = torch.tensor([[0.0, 0.0, 8.0, 8.0], [8.0, 0.0, 16.0, 8.0]])
    gt = Instances((8, 16))
    gt.gt_boxes = Boxes(torch.tensor([[0.0, 0.0, 7.0, 8.0], [9.0, 0.0, 16.0, 8.0]]))
    gt.gt_classes = torch.tensor([3, 4])
    ignored = torch.tensor([True, False])
    arguments = ([gt], anchors, [(8, 16)], [(1, 2)], [8], 8, max_iou_match)
    targets = assign_anchors(*arguments, ignored)
    assert targets.index.tolist() == [1] and targets.classes.tolist() == [4]
    assert targets.valid.tolist() == [False, True]
    assert targets.gts_without_positive == 1
    targets = assign_anchors([gt[:1]], *arguments[1:], ignored)
    assert targets.index.tolist() == [] and targets.valid.tolist() == [False, True]
