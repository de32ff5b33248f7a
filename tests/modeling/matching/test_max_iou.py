"""mmdet's rule by its own loops, and each of its quirks by hand."""

import torch

from vfnet.modeling.matching.max_iou import max_iou_match


def by_the_rule(ious, low, high):
    """Anchor by anchor, then box by box."""
    labels = [-1] * ious.shape[1]
    index = [0] * ious.shape[1]
    for anchor in range(ious.shape[1]):
        overlaps = ious[:, anchor].tolist()
        index[anchor] = overlaps.index(max(overlaps))
        if max(overlaps) < low:
            labels[anchor] = 0
        elif max(overlaps) >= high:
            labels[anchor] = 1
    for box in range(ious.shape[0]):
        for anchor in range(ious.shape[1]):
            if ious[box, anchor] == ious[box].max():
                labels[anchor], index[anchor] = 1, box
    return index, labels


def test_thresholds_and_best_anchors_are_mmdets():
    generator = torch.Generator().manual_seed(0)
    for boxes in range(1, 6):
        # Of few values, so that many are equal.
        ious = torch.randint(0, 8, (boxes, 40), generator=generator) / 10
        gt_index, labels = max_iou_match(ious)
        expected_index, expected_labels = by_the_rule(ious, 0.4, 0.5)
        assert labels.tolist() == expected_labels
        positive = labels == 1
        assert gt_index[positive].tolist() == torch.tensor(expected_index)[positive].tolist()


def test_an_anchor_that_is_best_for_two_boxes_learns_the_last():
    ious = torch.tensor([[0.9, 0.1], [0.2, 0.1]])
    gt_index, labels = max_iou_match(ious)
    assert gt_index[0] == 1  # though it overlaps box 0 by far more
    assert labels.tolist() == [1, 0]


def test_a_box_that_meets_no_anchor_takes_all_that_meet_nothing_of_it():
    ious = torch.tensor([[0.6, 0.0, 0.3], [0.0, 0.0, 0.0]])
    gt_index, labels = max_iou_match(ious)
    assert gt_index.tolist() == [1, 1, 1]
    assert labels.tolist() == [1, 1, 1]


def test_without_a_box_all_is_background():
    _, labels = max_iou_match(torch.zeros(0, 3))
    assert labels.tolist() == [0, 0, 0]


def test_a_best_anchor_may_have_to_reach_an_iou():
    # RPN: the best anchor of the first box counts, that of the second overlaps too little.
    ious = torch.tensor([[0.35, 0.1, 0.0], [0.1, 0.25, 0.0]])
    gt_index, labels = max_iou_match(ious, 0.3, 0.7, best_from=0.3)
    assert labels.tolist() == [1, 0, 0] and gt_index[0] == 0
    _, labels = max_iou_match(ious, 0.3, 0.7)
    assert labels.tolist() == [1, 1, 0]
