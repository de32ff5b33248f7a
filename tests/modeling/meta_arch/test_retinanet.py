"""QualityRetinaNet: what it learns by arithmetic on paper, its own rules, its keys."""

import math

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, ImageList, Instances
from torch import distributed

from tests.engine.tiny import picture
from tests.engine.tiny_retinanet import retinanet_config
from vfnet.errors import UserError

# One anchor of 32 x 32 pixels on each cell of 8 pixels, centred at its corner.
ONE_ANCHOR = (
    *("MODEL.ANCHOR_GENERATOR.SIZES", "[[32], [64], [128], [256], [512]]"),
    *("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", "[[1.0]]"),
)


def build(*overrides):
    torch.manual_seed(0)
    return build_model(retinanet_config("", *overrides))


def instances(size, boxes, classes=None):
    boxes = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
    classes = torch.tensor(classes or [0] * len(boxes), dtype=torch.int64)
    return Instances(size, gt_boxes=Boxes(boxes), gt_classes=classes)


class Scene:
    """A batch whose head's outputs are all given: logits 0 and deltas 0 but for what is set."""

    def __init__(self, model, *sizes):
        self.model = model
        self.images = ImageList.from_tensors([torch.zeros(3, *s) for s in sizes], 32)
        height, width = self.images.tensor.shape[-2:]
        strides = (8, 16, 32, 64, 128)
        shapes = [(-(-height // stride), -(-width // stride)) for stride in strides]
        anchors, n = model.anchor_generator.num_anchors[0], len(sizes)
        self.features = [torch.zeros(n, 32, *shape) for shape in shapes]
        self.logits = [torch.zeros(n, anchors * 3, *shape) for shape in shapes]
        self.deltas = [torch.zeros(n, anchors * 4, *shape) for shape in shapes]

    def losses(self, gt):
        predictions = [x.requires_grad_() for x in self.logits], self.deltas
        return self.model.forward_training(self.images, self.features, predictions, gt)

    def detections(self):
        predictions = self.logits, self.deltas
        return self.model.forward_inference(self.images, self.features, predictions)


def test_the_quality_is_the_iou_of_the_predicted_box():
    model = build(*ONE_ANCHOR)
    scene = Scene(model, (64, 64))
    # At (16, 16), of x 0 to 32. Moved by a quarter of its width the box has 24 of 40 columns.
    scene.deltas[0][0, 0, 2, 2] = 0.25
    losses = scene.losses([instances((64, 64), [[0, 0, 32, 32]], [1])])
    (gradient,) = torch.autograd.grad(losses["loss_cls"], scene.logits[0])
    # Of varifocal loss: q (p - q). Its four neighbours, at 24 of 40, are positive as well.
    q = 24 / 40
    assert gradient[0, 1, 2, 2].item() == pytest.approx(q * (0.5 - q) / 5, rel=1e-5)
    assert gradient[0, 1, 2, 3].item() == pytest.approx(q * (0.5 - q) / 5, rel=1e-5)
    # Of a negative: 0.75 p^2 (2 (1 - p) s + p) with p = 1/2, s = ln 2.
    negative = 0.75 / 4 * (math.log(2) + 0.5)
    assert gradient[0, 0, 2, 2].item() == pytest.approx(negative / 5, rel=1e-5)
    # L1 of one delta each: 0.25 too far, or a quarter of the anchor's side missing.
    assert losses["loss_box_reg"].item() == pytest.approx(0.25, rel=1e-5)


@pytest.mark.parametrize("name", ["varifocal", "quality_focal", "focal"])
def test_a_positive_whose_box_misses_learns_background_but_under_focal_loss(name):
    model = build(*ONE_ANCHOR, "MODEL.RETINANET.CLS_LOSS", name)
    scene = Scene(model, (64, 64))
    scene.deltas[0][0, 0, 2, 2] = 3.0  # three widths to the right: IoU 0
    losses = scene.losses([instances((64, 64), [[0, 0, 32, 32]], [1])])
    (gradient,) = torch.autograd.grad(losses["loss_cls"], scene.logits[0])
    own, other = gradient[0, 1, 2, 2].item(), gradient[0, 0, 2, 2].item()
    if name == "focal":
        assert own < 0 < other
    else:
        assert own == pytest.approx(other) and own > 0


def test_by_key_a_positive_whose_box_misses_stays_one():
    """The gradient of varifocal loss is q (p - q) with q at the minimum, 1e-6, over 5 positives."""
    model = build(*ONE_ANCHOR, "MODEL.RETINANET.QUALITY_MIN", "1e-6")
    scene = Scene(model, (64, 64))
    scene.deltas[0][0, 0, 2, 2] = 3.0
    losses = scene.losses([instances((64, 64), [[0, 0, 32, 32]], [1])])
    (gradient,) = torch.autograd.grad(losses["loss_cls"], scene.logits[0])
    assert gradient[0, 1, 2, 2].item() == pytest.approx(0.5e-6 / 5, rel=1e-3)


@pytest.mark.parametrize("name", ["varifocal", "quality_focal", "focal"])
def test_anchors_between_both_thresholds_take_no_part(name):
    model = build(*ONE_ANCHOR, "MODEL.RETINANET.CLS_LOSS", name)
    scene = Scene(model, (64, 64))
    losses = scene.losses([instances((64, 64), [[0, 0, 42, 32]], [1])])
    (gradient,) = torch.autograd.grad(losses["loss_cls"], scene.logits[0])
    # The anchor at (16, 16) lies inside: 1024 of 1344 pixels, 0.76.
    assert gradient[0, 1, 2, 2] < 0
    # A row below: 32 x 24 of 1600 pixels, 0.48, neither. Two columns on: 26 x 24 of 1744, 0.36.
    assert (gradient[0, :, 3, 2] == 0).all()
    assert (gradient[0, :, 3, 4] > 0).all()


def test_losses_are_divided_by_the_positives_of_each_image_or_one():
    model = build(*ONE_ANCHOR)
    size = (64, 64)
    box = instances(size, [[0, 0, 32, 32]])
    none = instances(size, [])

    def negative(*gt):
        """The gradient at a background's logit: its own share, whatever the others are."""
        scene = Scene(model, *[size] * len(gt))
        (gradient,) = torch.autograd.grad(scene.losses(gt)["loss_cls"], scene.logits[4])
        return gradient[0, 0, 0, 0].item()

    alone = 0.75 / 4 * (math.log(2) + 0.5)
    # The anchor itself and its four neighbours at 0.6.
    assert negative(box) == pytest.approx(alone / 5, rel=1e-5)
    assert negative(none) == pytest.approx(alone, rel=1e-5)
    assert negative(box, none, none) == pytest.approx(alone / 7, rel=1e-5)


def test_the_moving_normaliser_is_detectron2s_and_goes_on_from_a_checkpoint():
    model = build(*ONE_ANCHOR, "MODEL.RETINANET.LOSS_NORMALIZER", "ema")
    size = (64, 64)
    alone = 0.75 / 4 * (math.log(2) + 0.5)
    expected = 100.0
    for boxes, positives in (([[0, 0, 32, 32]], 5), ([], 1), ([[0, 0, 32, 32]], 5)):
        scene = Scene(model, size)
        loss = scene.losses([instances(size, boxes)])["loss_cls"]
        (gradient,) = torch.autograd.grad(loss, scene.logits[4])
        expected = 0.9 * expected + 0.1 * positives
        assert gradient[0, 0, 0, 0].item() == pytest.approx(alone / expected, rel=1e-5)
    other = build(*ONE_ANCHOR, "MODEL.RETINANET.LOSS_NORMALIZER", "ema")
    other.load_state_dict(model.state_dict())
    assert other.normaliser.average.item() == pytest.approx(expected, rel=1e-6)
    # Weights of a detector without one leave it as it is.
    other.load_state_dict(build(*ONE_ANCHOR).state_dict())
    assert other.normaliser.average.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", ["varifocal", "quality_focal", "focal"])
def test_anchors_in_the_padding_of_the_smaller_image_take_no_part(name):
    model = build(*ONE_ANCHOR, "MODEL.RETINANET.CLS_LOSS", name)
    scene = Scene(model, (64, 128), (60, 64))
    gt = [instances((64, 128), [[0, 0, 32, 32]]), instances((60, 64), [[40, 20, 64, 60]])]
    (gradient,) = torch.autograd.grad(scene.losses(gt)["loss_cls"], scene.logits[0])
    assert (gradient[0] != 0).all()
    # The smaller one is padded to 64 x 64 for itself: 8 of 16 columns are its own.
    assert (gradient[1, :, :, 8:] == 0).all()
    assert (gradient[1, :, :, 7] != 0).any()
    # What it learns is what it learns alone.
    alone = Scene(model, (60, 64))
    (expected,) = torch.autograd.grad(alone.losses(gt[1:])["loss_cls"], alone.logits[0])
    shares = [g[0, 0, 7, 0] for g in (gradient[1:], expected)]  # background: by its normaliser
    torch.testing.assert_close(
        gradient[1, :, :, :8] / shares[0], expected[0] / shares[1], rtol=1e-4, atol=1e-6
    )


def test_boxes_are_clipped_before_suppression():
    model = build(*ONE_ANCHOR)
    scene = Scene(model, (64, 64))
    for logits in scene.logits:
        logits.fill_(-10.0)
    # Two anchors at the left edge: x -16 to 16 and -8 to 24, y 16 to 48. Their IoU is 24 / 40.
    scene.logits[0][0, 0, 4, 0], scene.logits[0][0, 0, 4, 1] = 2.0, 1.0
    (found,) = scene.detections()
    # Inside the image 16 of 24 columns are common, 0.67, which is suppressed at 0.65; outside not.
    model.suppression.keywords["iou_threshold"] = 0.65
    (found,) = scene.detections()
    assert found.pred_boxes.tensor.tolist() == [[0, 16, 16, 48]]
    assert found.scores.tolist() == pytest.approx([1 / (1 + math.exp(-2))])
    model.suppression.keywords["iou_threshold"] = 0.68
    (found,) = scene.detections()
    assert found.pred_boxes.tensor.tolist() == [[0, 16, 16, 48], [0, 16, 24, 48]]


def test_width_and_height_are_bounded_at_both_ends():
    model = build(*ONE_ANCHOR)
    scene = Scene(model, (64, 64))
    for logits in scene.logits:
        logits.fill_(-10.0)
    scene.logits[0][0, 0, 4, 4] = 2.0
    scene.deltas[0][0, 2, 4, 4], scene.deltas[0][0, 3, 4, 4] = -50.0, 0.0
    (found,) = scene.detections()
    left, _, right, _ = found.pred_boxes.tensor[0].tolist()
    assert right - left == pytest.approx(32 * 16 / 1000, rel=1e-3)


@pytest.mark.parametrize("boxes", [6, 0])
def test_every_parameter_has_a_gradient_and_losses_are_finite(boxes):
    for loss in ("smooth_l1", "balanced_l1", "giou", "diou", "ciou"):
        model = build("MODEL.RETINANET.BBOX_REG_LOSS_TYPE", loss).train()
        losses = model([picture(1, boxes), picture(2, boxes)])
        assert set(losses) == {"loss_cls", "loss_box_reg"}
        assert (losses["loss_box_reg"].item() > 0) == (boxes > 0)
        sum(losses.values()).backward()
        learnt = [p for p in model.parameters() if p.requires_grad]
        assert all(p.grad is not None and p.grad.isfinite().all() for p in learnt)


def test_no_process_waits_for_one_without_positives(monkeypatch):
    """As many collectives with boxes as without; two processes are pretended."""
    calls = []
    monkeypatch.setattr("detectron2.utils.comm.get_world_size", lambda: 2)
    for name in ("all_reduce", "all_gather", "broadcast", "barrier"):
        monkeypatch.setattr(distributed, name, lambda *_, name=name, **__: calls.append(name))
    counts = []
    for normaliser in ("positives", "ema"):
        for boxes in (6, 0):
            calls.clear()
            model = build("MODEL.RETINANET.LOSS_NORMALIZER", normaliser).train()
            model([picture(1, boxes)])
            counts.append(list(calls))
    assert all(own == counts[0] for own in counts)


@pytest.mark.parametrize(
    "overrides, message",
    [
        (("CLS_LOSS", "dice"), "MODEL.RETINANET.CLS_LOSS must be .* got 'dice'"),
        (("LOSS_NORMALIZER", "mean"), "MODEL.RETINANET.LOSS_NORMALIZER must be .* got 'mean'"),
        (("BBOX_REG_LOSS_TYPE", "l2"), "MODEL.RETINANET.BBOX_REG_LOSS_TYPE must be .* got 'l2'"),
        (("IOU_THRESHOLDS", "[0.5, 0.4]"), r"MODEL.RETINANET.IOU_THRESHOLDS .* got \[0.5, 0.4\]"),
        (("IOU_THRESHOLDS", "[0.5]"), r"IOU_LABELS.*got \[0.5\] and \[0, -1, 1\]"),
        (("CLASS_NAMES", "['cat']"), "MODEL.RETINANET.NUM_CLASSES is 3, but CLASS_NAMES has 1"),
    ],
)
def test_wrong_values_are_named(overrides, message):
    with pytest.raises(UserError, match=message):
        build(f"MODEL.RETINANET.{overrides[0]}", overrides[1])


def test_one_threshold_is_both():
    one = ("MODEL.RETINANET.IOU_THRESHOLDS", "[0.5]", "MODEL.RETINANET.IOU_LABELS", "[0, 1]")
    _, labels = build(*one).anchor_matcher(torch.tensor([[0.9, 0.5, 0.45, 0.1]]))
    assert labels.tolist() == [1, 1, 0, 0]


def test_weights_of_detectron2s_retinanet_fit():
    ours = build()
    cfg = retinanet_config("")
    cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
    theirs = build_model(cfg)
    ours.load_state_dict(theirs.state_dict())
    ours.eval(), theirs.eval()
    torch.nn.init.normal_(theirs.head.cls_score.weight, std=0.3)
    ours.load_state_dict(theirs.state_dict())
    # Inside of the image both do the same, but for what sticks out of it.
    with torch.no_grad():
        own, other = (model([picture(1)])[0]["instances"] for model in (ours, theirs))
    assert len(own) > 0 and own.scores[0] == other.scores[0]
