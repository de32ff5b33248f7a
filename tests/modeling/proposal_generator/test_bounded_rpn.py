"""What the RPN of Libra R-CNN learns, by counting."""

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from torch.nn import functional as F

from tests.engine.tiny_libra import libra_config
from vfnet.errors import UserError


def build_rpn(*overrides):
    torch.manual_seed(0)
    return build_model(libra_config("", *overrides)).proposal_generator


def image_of(boxes, size=(128, 128)):
    return Instances(size, gt_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32).view(-1, 4)))


def anchors_of(rpn, side=128):
    return rpn.anchor_generator(
        [torch.zeros(1, 1, side // s, side // s) for s in (4, 8, 16, 32, 64)]
    )


# One anchor of 32 pixels, and one that no anchor overlaps by 0.3.
BOXES = [[32, 32, 64, 64], [100, 0, 104, 120]]


@pytest.mark.parametrize("boxes, positives", [(BOXES[:1], 1), ([], 0), (BOXES[1:], 0)])
def test_negatives_are_at_most_so_many_for_each_positive(boxes, positives):
    rpn = build_rpn()
    (labels,), _ = rpn.label_and_sample_anchors(anchors_of(rpn), [image_of(boxes)])
    found = int((labels == 1).sum())
    assert found >= positives and (found == 0) == (positives == 0)
    assert (labels == 0).sum() == 5 * max(found, 1)


def test_the_bound_is_no_quota():
    rpn = build_rpn("MODEL.RPN.NEGATIVES_PER_POSITIVE", "300")
    (labels,), _ = rpn.label_and_sample_anchors(anchors_of(rpn), [image_of(BOXES[:1])])
    assert (labels >= 0).sum() == 256


def test_without_a_bound_it_samples_as_detectron2s():
    rpn = build_rpn("MODEL.RPN.NEGATIVES_PER_POSITIVE", "0")
    (labels,), _ = rpn.label_and_sample_anchors(anchors_of(rpn), [image_of(BOXES[:1])])
    assert (labels >= 0).sum() == 256


def test_an_anchor_learns_the_box_whose_best_it_is():
    # The first anchor overlaps the first box by 5 / 6, the second by a half, and no other is better
    # for either: the last one wins, where Detectron2's would learn the first. The third box has
    # 0.2 at best, below the lower threshold.
    anchors = [Boxes(torch.tensor([[0.0, 0, 10, 10], [50, 50, 60, 60]]))]
    gt = image_of([[0, 0, 10, 12], [0, 0, 10, 20], [50, 50, 60, 100]])
    (labels,), (boxes,) = build_rpn().label_and_sample_anchors(anchors, [gt])
    assert labels.tolist() == [1, 0]
    assert boxes[0].tolist() == [0, 0, 10, 20]


def test_anchors_in_the_padding_take_no_part():
    rpn = build_rpn(
        "MODEL.RPN.NEGATIVES_PER_POSITIVE", "0", "MODEL.RPN.BATCH_SIZE_PER_IMAGE", "99999"
    )
    small, full = image_of(BOXES[:1], (60, 90)), image_of(BOXES[:1])
    anchors = anchors_of(rpn)
    labels, _ = rpn.label_and_sample_anchors(anchors, [small, full])
    x, y = Boxes.cat(anchors).get_centers().T
    # 60 x 90 alone would be padded to 64 x 96.
    inside = (x < 95.5) & (y < 63.5)
    assert not (labels[0][~inside] >= 0).any()
    assert (labels[0][inside] == 0).any() and (labels[1][~inside] == 0).any()


def test_losses_are_divided_by_the_anchors_that_are_sampled():
    rpn = build_rpn()
    anchors = anchors_of(rpn)
    count = len(Boxes.cat(anchors))
    labels = torch.full((2, count), -1)
    labels[0, :3], labels[0, 3:10] = 1, 0
    labels[1, :4] = 0  # no positive, which counts as one: 3 + 7 + 1 + 4
    torch.manual_seed(0)
    sizes = [len(level) for level in anchors]
    logits, deltas = torch.randn(2, count), torch.randn(2, count, 4)
    boxes = Boxes.cat(anchors).tensor.expand(2, -1, -1)  # their own: deltas of 0
    with EventStorage():
        losses = rpn.losses(
            anchors, list(logits.split(sizes, 1)), list(labels), list(deltas.split(sizes, 1)), boxes
        )
    sampled = labels >= 0
    loss_cls = F.binary_cross_entropy_with_logits(
        logits[sampled], labels[sampled].float(), reduction="sum"
    )
    torch.testing.assert_close(losses["loss_rpn_cls"], loss_cls / 15)
    torch.testing.assert_close(losses["loss_rpn_loc"], deltas[0, :3].abs().sum() / 15)


def test_a_negative_bound_is_an_error():
    cfg = libra_config("")
    cfg.MODEL.RPN.NEGATIVES_PER_POSITIVE = -1  # as a program may, past what `load_config` refuses
    with pytest.raises(UserError, match="NEGATIVES_PER_POSITIVE must be 0 .* got -1"):
        build_model(cfg)


def test_thresholds_that_the_rule_does_not_know_are_an_error():
    with pytest.raises(UserError, match="MODEL.RPN.IOU_THRESHOLDS must be two ascending numbers"):
        build_rpn("MODEL.RPN.IOU_THRESHOLDS", "[0.7, 0.3]")
