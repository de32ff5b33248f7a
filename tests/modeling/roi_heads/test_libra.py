"""Libra Faster R-CNN: the reference's numbers; what its second stage samples and learns."""

import math

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from tests.compare import assert_same_detections, relative_difference
from tests.engine.tiny import picture
from tests.engine.tiny_libra import libra_config
from tests.minis import load_mini, mini_config, model_input
from vfnet.errors import UserError
from vfnet.modeling.roi_heads.box_predictor import BalancedL1OutputLayers

MINI = "mini_libra_faster_rcnn"


@pytest.mark.parity
def test_levels_proposals_and_detections_are_the_references(shared):
    model, expected, _ = load_mini(shared / "reference/family", MINI)
    model.eval()
    item = model_input(expected["image_bgr"])
    with torch.no_grad():
        images = model.preprocess_image([item])
        features = model.backbone(images.tensor)
        rpn = model.proposal_generator
        outputs = rpn.rpn_head([features[name] for name in rpn.in_features])
        (proposals,), _ = rpn(images, features)
        detections = model([item])[0]["instances"]
    for level, wanted in zip(features.values(), expected["pyramid"], strict=True):
        assert relative_difference(level, wanted) < 1e-4
    for levels, wanted_levels in zip(outputs, expected["outputs"], strict=True):
        for level, wanted in zip(levels, wanted_levels, strict=True):
            assert relative_difference(level, wanted) < 1e-4
    wanted = expected["proposals"]
    found = Instances(proposals.image_size)
    found.pred_boxes, found.scores = proposals.proposal_boxes, proposals.objectness_logits.sigmoid()
    found.pred_classes = torch.zeros(len(found), dtype=torch.int64)
    assert_same_detections(found, {**wanted, "classes": torch.zeros(len(wanted["scores"]))})
    assert_same_detections(detections, expected["detections"])


@pytest.mark.parity
def test_detectron2s_own_predictor_gives_the_references_detections(shared):
    folder = shared / "reference/family"
    expected = torch.load(folder / f"{MINI}.expected.pt", weights_only=True)
    predictor = DefaultPredictor(mini_config(folder, MINI))
    image = expected["image_bgr"].permute(1, 2, 0).numpy()
    assert_same_detections(predictor(image)["instances"], expected["detections"])


def build(*overrides):
    torch.manual_seed(0)
    return build_model(libra_config("", *overrides))


def sampled(heads, num_boxes=4, seed=0):
    """What heads sample of 200 proposals around boxes of 40 pixels, a third of them far away."""
    torch.manual_seed(seed)
    corners = torch.arange(num_boxes)[:, None] * 60.0 + torch.tensor([10.0, 10.0])
    gt = Instances((400, 400), gt_boxes=Boxes(torch.cat((corners, corners + 40), dim=1)))
    gt.gt_classes = torch.arange(num_boxes) % 3
    start = torch.cat((corners.repeat(50, 1)[:140] + 30 * torch.rand(140, 2), torch.zeros(60, 2)))
    start[140:] += torch.tensor([300.0, 10.0])
    proposals = Instances((400, 400), proposal_boxes=Boxes(torch.cat((start, start + 40), dim=1)))
    proposals.objectness_logits = torch.zeros(200)
    with EventStorage():
        (result,) = heads.label_and_sample_proposals([proposals], [gt])
    return result, gt


def test_sampled_rois_carry_what_they_learn():
    heads = build().roi_heads
    result, gt = sampled(heads)
    positive = result.gt_classes < 3
    assert len(result) == 32 and positive.sum() == 8  # a quarter of them
    for box, gt_box, label in zip(
        result.proposal_boxes[positive], result.gt_boxes.tensor[positive], result.gt_classes
    ):
        centre = (box[:2] + box[2:]) / 2
        nearest = (gt.gt_boxes.get_centers() - centre).square().sum(dim=1).argmin()
        assert torch.equal(gt_box, gt.gt_boxes.tensor[nearest])
        assert label == gt.gt_classes[nearest]


def far_away(result):
    """How many sampled RoIs overlap with no box."""
    return int((result.proposal_boxes.tensor[:, 0] == 300).sum())


def test_the_floor_switches_after_the_first_full_image_and_is_in_checkpoints():
    heads = build().roi_heads
    assert far_away(sampled(heads)[0]) > 0
    assert heads.state_dict()["floor_at_zero"]
    assert far_away(sampled(heads)[0]) == 0
    again = build().roi_heads
    again.load_state_dict(heads.state_dict())
    assert far_away(sampled(again)[0]) == 0


def test_an_image_with_few_negatives_does_not_switch_the_floor():
    heads = build("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "512").roi_heads
    sampled(heads)
    assert not heads.floor_at_zero


def test_without_the_switch_every_image_is_as_the_first():
    heads = build("MODEL.ROI_HEADS.SAMPLER_FLOOR_SWITCH", "False").roi_heads
    first, second = sampled(heads)[0], sampled(heads)[0]
    assert torch.equal(first.proposal_boxes.tensor, second.proposal_boxes.tensor)
    assert far_away(second) > 0 and not heads.floor_at_zero


def test_the_random_sampler_is_detectron2s():
    libra = build("MODEL.ROI_HEADS.SAMPLER", "random").roi_heads
    plain = build(
        *("MODEL.ROI_HEADS.SAMPLER", "random", "MODEL.ROI_HEADS.NAME", "StandardROIHeads"),
        *("MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE", "smooth_l1"),
    ).roi_heads
    mine, detectron2s = sampled(libra)[0], sampled(plain)[0]
    assert torch.equal(mine.proposal_boxes.tensor, detectron2s.proposal_boxes.tensor)
    assert torch.equal(mine.gt_classes, detectron2s.gt_classes)


def test_weights_of_other_heads_leave_nothing_to_complain_of(tmp_path, caplog):
    model = build()
    weights = model.state_dict()
    del weights["roi_heads.floor_at_zero"]
    torch.save({"model": weights}, tmp_path / "model.pth")
    with caplog.at_level("WARNING"):
        DetectionCheckpointer(model).load(str(tmp_path / "model.pth"))
    assert not caplog.records
    assert model.load_state_dict(weights).missing_keys == []


@pytest.mark.parametrize("agnostic", [False, True])
def test_the_loss_of_boxes_is_balanced_l1_over_all_rois(agnostic):
    layers = BalancedL1OutputLayers(
        input_shape=4,
        box2box_transform=Box2BoxTransform(weights=(10.0, 10.0, 5.0, 5.0)),
        num_classes=2,
        cls_agnostic_bbox_reg=agnostic,
        alpha=0.5,
        gamma=1.5,
        beta=1.0,
    )
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [50, 50, 90, 90]])
    # Of the first one, 0.2 of a width to the right: 2 after the weight of 10.
    gt_boxes = torch.tensor([[2.0, 0, 12, 10], [0, 0, 10, 10], [0, 0, 1, 1]])
    deltas = torch.zeros(3, 4 if agnostic else 8)
    deltas[1, -3] = 0.5  # of the second class, dy
    b = math.exp(3) - 1
    large = 1.5 * 2 + 1.5 / b - 0.5
    small = 0.5 / b * (b * 0.5 + 1) * math.log(b * 0.5 + 1) - 0.25
    loss = layers.box_reg_loss(boxes, gt_boxes, deltas, torch.tensor([0, 1, 2]))
    assert loss.item() == pytest.approx((large + small) / 3, rel=1e-5)


def test_no_box_in_the_batch_gives_finite_losses_and_a_gradient_for_every_weight():
    model = build().train()
    with EventStorage():
        losses = model([picture(1, num_boxes=0), picture(2, num_boxes=0)])
    sum(losses.values()).backward()
    assert set(losses) == {"loss_cls", "loss_box_reg", "loss_rpn_cls", "loss_rpn_loc"}
    assert all(loss.isfinite() for loss in losses.values())
    learnt = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in learnt)


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("SAMPLER", "ohem", "MODEL.ROI_HEADS.SAMPLER must be 'random' or 'libra', got 'ohem'"),
        ("SAMPLER_BINS", "0", "MODEL.ROI_HEADS.SAMPLER_BINS must be 1 or more, got 0"),
    ],
)
def test_what_cannot_be_sampled_is_an_error(key, value, message):
    with pytest.raises(UserError, match=message):
        build(f"MODEL.ROI_HEADS.{key}", value)
