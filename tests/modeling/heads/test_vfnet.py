"""The head and its losses against the reference head of 64 channels and 5 classes."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from detectron2.structures import Boxes, ImageList, Instances
from torch import nn

from tests.builders import classification_loss
from tests.compare import assert_same_detections, relative_difference
from vfnet import get_cfg
from vfnet.checkpoint import convert_state_dict
from vfnet.errors import UserError
from vfnet.layers.deform_conv import DeformConvWithOffset
from vfnet.modeling import VFNet, VFNetHead
from vfnet.modeling.box_coding import MAX_EXPONENT, bounded_exp
from vfnet.modeling.inference.candidates import build_candidate_rule
from vfnet.modeling.inference.suppression import build_suppression
from vfnet.modeling.matching.atss import atss_match_batch

LEVELS = ("p3", "p4", "p5", "p6", "p7")
STRIDES = (8, 16, 32, 64, 128)


class Levels(Backbone):
    """A pyramid that is never run: its features are given."""

    size_divisibility = 32

    def forward(self, x):
        raise NotImplementedError

    def output_shape(self):
        return {name: ShapeSpec(64, stride=s) for name, s in zip(LEVELS, STRIDES)}


def build_detector(head):
    return VFNet(
        backbone=Levels(),
        head=head,
        head_in_features=list(LEVELS),
        pixel_mean=[0.0] * 3,
        pixel_std=[1.0] * 3,
        num_classes=5,
        matcher=atss_match_batch,
        classification_loss=classification_loss("varifocal"),
        cls_loss_weight=1.0,
        box_loss_weight=1.5,
        refined_box_loss_weight=2.0,
        candidate_rule=build_candidate_rule("pair", 0.05, 1000, prefix="MODEL.VFNET"),
        suppression=build_suppression("nms", 0.6, 100, 0.5, 0.001, prefix="MODEL.VFNET"),
    )


def small_head(**switches):
    settings = {
        "strides": list(STRIDES),
        "num_convs": 3,
        "norm": "GN",
        "prior_prob": 0.01,
        "deform_last_conv": False,
        "star_features": True,
        "refine_box": True,
        "star_gradient_scale": 0.1,
        **switches,
    }
    return VFNetHead(in_channels=64, num_classes=5, conv_channels=64, **settings)


def instances(boxes, classes, size):
    return Instances(tuple(size), gt_boxes=Boxes(boxes), gt_classes=classes)


class Reference:
    """The reference's numbers, and the detector that must give them."""

    def __init__(self, path):
        self.numbers = torch.load(path, weights_only=True)
        state = {f"bbox_head.{key}": value for key, value in self.numbers["state_dict"].items()}
        head = small_head()
        names = {key[len("head.") :]: value for key, value in convert_state_dict(state).items()}
        head.load_state_dict(names, strict=True)
        self.detector = build_detector(head)
        self.features = [feature.clone().requires_grad_() for feature in self.numbers["feats"]]
        sizes = [tuple(size) for size in self.numbers["image_sizes"]]
        self.images = ImageList(torch.zeros(2, 3, *self.numbers["padded_size"]), sizes)
        self.gt = [
            instances(boxes, classes, size)
            for boxes, classes, size in zip(
                self.numbers["gt_boxes"], self.numbers["gt_classes"], sizes
            )
        ]

    def losses(self, gt):
        predictions = self.detector.head(self.features)
        return self.detector.forward_training(self.images, self.features, predictions, gt)

    def without_boxes(self, *which):
        return [gt[:0] if i in which else gt for i, gt in enumerate(self.gt)]


@pytest.fixture
def reference(shared):
    return Reference(shared / "reference" / "head.pt")


@pytest.mark.parity
def test_outputs_are_the_references(reference):
    output = reference.detector.head(reference.features)
    for name, actual in zip(("cls_logits", "distances", "distances_refined"), output):
        for level, expected in zip(actual, reference.numbers[name]):
            assert relative_difference(level, expected) < 1e-4, name


@pytest.mark.parity
@pytest.mark.parametrize(
    ("case", "empty"), [("losses", ()), ("losses_one_empty_image", (1,)), ("losses_no_gt", (0, 1))]
)
def test_losses_are_the_references(reference, case, empty):
    losses = reference.losses(reference.without_boxes(*empty))
    names = {
        "loss_cls": "loss_cls",
        "loss_bbox": "loss_box_init",
        "loss_bbox_rf": "loss_box_refined",
    }
    for name, expected in reference.numbers[case].items():
        assert losses[names[name]].item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-9)


@pytest.mark.parity
def test_gradients_are_the_references(reference):
    sum(reference.losses(reference.gt).values()).backward()
    for feature, expected in zip(reference.features, reference.numbers["grad_feats"]):
        assert relative_difference(feature.grad, expected) < 1e-3
    parameters = dict(reference.detector.named_parameters())
    for name, expected in reference.numbers["grad_params"].items():
        (ours,) = convert_state_dict({f"bbox_head.{name}": expected})
        assert relative_difference(parameters[ours].grad, expected) < 1e-3, name


@pytest.mark.parity
def test_targets_are_the_references(reference):
    predictions = reference.detector.head(reference.features)
    targets = reference.detector.assign(
        reference.images, reference.features, predictions, reference.gt
    )
    # The reference lists a level's locations of all images together; ours go image by image.
    sizes = [feature.shape[-2] * feature.shape[-1] for feature in reference.features]
    labels = torch.full((2 * sum(sizes),), 5)
    labels[targets.index] = targets.classes
    distances = torch.zeros(2 * sum(sizes), 4)
    points = reference.detector.points(reference.features)[targets.index % sum(sizes)]
    distances[targets.index] = torch.cat(
        (points - targets.boxes[:, :2], targets.boxes[:, 2:] - points), dim=1
    )
    for label, distance, expected_label, expected_distance in zip(
        labels.view(2, -1).split(sizes, dim=1),
        distances.view(2, -1, 4).split(sizes, dim=1),
        reference.numbers["target_labels_per_level"],
        reference.numbers["target_distances_per_level"],
    ):
        assert torch.equal(label.flatten(), expected_label)
        positive = expected_label < 5
        actual = distance.reshape(-1, 4)[positive]
        torch.testing.assert_close(actual, expected_distance[positive], rtol=1e-5, atol=1e-4)


@pytest.mark.parity
def test_detections_are_the_references(reference):
    with torch.no_grad():
        output = reference.detector.head(reference.features)
        detections = reference.detector.forward_inference(
            reference.images, reference.features, output
        )
    for actual, expected in zip(detections, reference.numbers["detections"]):
        assert_same_detections(actual, expected)


def test_initialisation():
    torch.manual_seed(0)
    head = small_head(deform_last_conv=True)
    for name, module in head.named_modules():
        if name.endswith(".offset"):
            assert module.weight.abs().max() == 0
            assert module.bias.abs().max() == 0
        elif isinstance(module, DeformConvWithOffset):
            bound = (9 * 64) ** -0.5
            assert module.weight.abs().max() <= bound
            assert module.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.03)
        elif isinstance(module, nn.GroupNorm):
            assert (module.weight == 1).all()
            assert (module.bias == 0).all()
        elif hasattr(module, "weight"):
            assert module.weight.std().item() == pytest.approx(0.01, rel=0.08), name
    assert head.cls_pred.bias.tolist() == pytest.approx([-4.59512] * 5)
    assert head.box_pred.bias.tolist() == [0] * 4
    assert [scale.item() for scale in head.box_scales] == [1] * 5
    assert [scale.item() for scale in head.refine_scales] == [1] * 5


def test_the_deformable_last_convolution_replaces_the_last_of_both_towers():
    head = small_head(deform_last_conv=True, num_convs=2)
    for tower in (head.cls_tower, head.box_tower):
        assert [isinstance(layer, DeformConvWithOffset) for layer in tower] == [False, True]


def test_raw_distances_are_bounded_far_outside_any_image():
    scale = torch.tensor(2.0)
    raw = torch.tensor([-1e30, -1.0, 0.0, 1.0, 1e30, float("inf")])
    out = bounded_exp(raw, scale)
    limit = torch.tensor(MAX_EXPONENT).exp()
    expected = torch.stack(
        (
            1 / limit,
            torch.tensor(-2.0).exp(),
            torch.tensor(1.0),
            torch.tensor(2.0).exp(),
            limit,
            limit,
        )
    )
    torch.testing.assert_close(out, expected)
    assert 8 * limit * 8 > 1e6  # pixels, on the finest level


@pytest.mark.parametrize("bias", [50.0, -50.0, 1e6])
def test_a_diverged_head_has_finite_losses_and_gradients(bias):
    head = small_head()
    for layer in (head.box_pred, head.refine_pred):
        nn.init.constant_(layer.bias, bias)
    detector = build_detector(head)
    features = [torch.randn(1, 64, 128 // s + 1, 128 // s + 1) for s in STRIDES]
    images = ImageList(torch.zeros(1, 3, 128, 128), [(128, 128)])
    gt = [instances(torch.tensor([[20.0, 30, 90, 100]]), torch.tensor([3]), (128, 128))]
    losses = detector.forward_training(images, features, head(features), gt)
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


@pytest.mark.parametrize("star", [True, False])
def test_without_refinement_the_initial_box_is_learnt_and_detected(star):
    torch.manual_seed(0)
    head = small_head(star_features=star, refine_box=False)
    detector = build_detector(head)
    features = [torch.randn(1, 64, 128 // s + 1, 128 // s + 1) for s in STRIDES]
    images = ImageList(torch.zeros(1, 3, 128, 128), [(128, 128)])
    gt = [instances(torch.tensor([[20.0, 30, 90, 100]]), torch.tensor([3]), (128, 128))]
    output = head(features)
    assert output.refined_distances == []
    losses = detector.forward_training(images, features, output, gt)
    assert set(losses) == {"loss_cls", "loss_box_init"}
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in head.parameters())

    # With a raw output of 0 the initial box reaches 8 strides to each side of its location.
    nn.init.zeros_(head.box_pred.weight)
    nn.init.constant_(head.cls_pred.bias, 5.0)
    detections = detector.forward_inference(images, features, head(features))[0]
    points = detector.points(features)
    reach = torch.cat(
        [torch.full(f.shape[-2:], 8.0 * s).view(-1) for f, s in zip(features, STRIDES)]
    )
    boxes = torch.cat((points - reach[:, None], points + reach[:, None]), dim=1).clamp(0, 128)
    assert len(detections) > 0
    assert torch.cdist(detections.pred_boxes.tensor, boxes).amin(dim=1).max() < 1e-3


def test_refinement_without_star_is_an_error():
    with pytest.raises(UserError, match="REFINE_BOX True needs MODEL.VFNET.STAR_FEATURES True"):
        small_head(star_features=False, refine_box=True)


def test_classification_gradient_reaches_the_initial_box_scaled_by_the_key():
    features = [torch.randn(1, 64, 16, 16)]
    gradients = []
    for scale in (0.1, 0.4):
        torch.manual_seed(0)
        head = small_head(strides=[8], star_gradient_scale=scale)
        nn.init.normal_(head.cls_star.weight, std=0.1)
        head(features).logits[0].square().sum().backward()
        gradients.append(head.box_pred.weight.grad)
    assert gradients[0].abs().max() > 0
    assert relative_difference(4 * gradients[0], gradients[1]) < 1e-3


def test_the_head_reads_its_switches_from_the_config():
    cfg = get_cfg()
    cfg.MODEL.VFNET.CONV_CHANNELS = 32
    cfg.MODEL.VFNET.NUM_CONVS = 2
    cfg.MODEL.VFNET.NUM_CLASSES = 7
    cfg.MODEL.VFNET.DEFORM_LAST_CONV = True
    head = VFNetHead(cfg, [ShapeSpec(64, stride=stride) for stride in STRIDES])
    assert len(head.cls_tower) == 2
    assert head.cls_pred.weight.shape == (7, 32, 3, 3)
    assert isinstance(head.box_tower[-1], DeformConvWithOffset)
