"""Each detector of the family against the reference implementation, through mmdet:// weights."""

import pytest
import torch
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from tests.compare import assert_same_detections, relative_difference
from tests.minis import assert_same_gradients, folder_of, load_mini, model_input
from tests.modeling.inference.tta_views import augmented_model, with_tta
from vfnet.checkpoint import convert_state_dict, to_mmdet_state_dict
from vfnet.evaluation.oracle import oracle_detections

# mmdet's names of the losses, and ours.
LOSSES = {
    "mini_atss": {
        "loss_cls": "loss_cls",
        "loss_bbox": "loss_box",
        "loss_centerness": "loss_centerness",
    },
    "mini_gfl": {"loss_cls": "loss_cls", "loss_bbox": "loss_box", "loss_dfl": "loss_dfl"},
    "mini_gflv2": {"loss_cls": "loss_cls", "loss_bbox": "loss_box", "loss_dfl": "loss_dfl"},
    "mini_retinanet": {"loss_cls": "loss_cls", "loss_bbox": "loss_box_reg"},
    "mini_libra_retinanet": {"loss_cls": "loss_cls", "loss_bbox": "loss_box_reg"},
    "mini_fovea": {"loss_cls": "loss_cls", "loss_bbox": "loss_box"},
    "mini_reppoints": {
        "loss_cls": "loss_cls",
        "loss_pts_init": "loss_points_init",
        "loss_pts_refine": "loss_points_refined",
    },
}
# RetinaNet's anchors are no locations, and it has Detectron2's keys.
of_locations = pytest.mark.parametrize("name", [n for n in LOSSES if "retinanet" not in n])


@pytest.fixture(params=LOSSES)
def name(request):
    return request.param


@pytest.fixture
def folder(name, request):
    return folder_of(name, request)


@pytest.fixture
def mini(name, folder):
    return load_mini(folder, name)


def training_input(expected):
    return [model_input(expected["image_bgr"], expected["gt_boxes"], expected["gt_classes"])]


def as_mmdet_returns_them(name, output):
    """The head's outputs, as mmdet returns them: by output, by level."""
    if "retinanet" in name:  # anchors of a location ratio by ratio, and size by size in each
        return [
            [level.unflatten(1, (3, 3, -1)).transpose(1, 2).flatten(1, 3) for level in levels]
            for levels in output
        ]
    if name == "mini_gflv2":  # the score is a product already
        scores = [a.sigmoid() * b.sigmoid() for a, b in zip(output.logits, output.qualities)]
        return [scores, output.distributions]
    return [levels for levels in output if isinstance(levels, list) and levels]


@pytest.mark.parity
def test_pyramid_and_outputs_are_the_references(name, mini):
    model, expected, _ = mini
    model.eval()
    with torch.no_grad():
        _, features, output = model.predict([model_input(expected["image_bgr"])])
    found = [features, *as_mmdet_returns_them(name, output)]
    for levels, references in zip(found, [expected["pyramid"], *expected["outputs"]], strict=True):
        for level, reference in zip(levels, references, strict=True):
            assert relative_difference(level, reference) < 1e-4


@pytest.mark.parity
def test_losses_and_gradients_are_the_references(name, mini):
    model, expected, _ = mini
    model.train()
    losses = model(training_input(expected))
    assert set(losses) == set(LOSSES[name].values())
    for theirs, ours in LOSSES[name].items():
        assert losses[ours].item() == pytest.approx(expected["losses"][theirs].item(), rel=1e-4)
    assert_same_gradients(model, training_input(expected), expected["grads"])


@pytest.mark.parity
def test_detections_are_the_references(mini):
    _, expected, cfg = mini
    image = expected["image_bgr"].permute(1, 2, 0).numpy()
    result = DefaultPredictor(cfg)(image)
    assert_same_detections(result["instances"], expected["detections"])


def test_there_and_back_is_every_name_and_number_of_the_reference(name, folder):
    checkpoint = torch.load(folder / f"{name}.pth", weights_only=True)["state_dict"]
    back = to_mmdet_state_dict(convert_state_dict(checkpoint))
    kept = [key for key in checkpoint if not key.endswith("num_batches_tracked")]
    assert list(back) == kept
    assert all(torch.equal(back[key], checkpoint[key]) for key in kept)


def test_images_without_boxes_leave_no_parameter_without_a_gradient(mini):
    model, expected, _ = mini
    model.train()
    empty = (torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    losses = model([model_input(expected["image_bgr"], *empty)] * 2)
    assert losses["loss_cls"].item() > 0
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    learnt = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in learnt)


def test_autocast_changes_the_losses_by_less_than_three_percent(mini):
    model, expected, _ = mini
    model.train()
    exact = model(training_input(expected))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(training_input(expected))
    for loss, value in exact.items():
        assert half[loss].dtype == torch.float32
        assert half[loss].item() == pytest.approx(value.item(), rel=0.03), loss
    sum(half.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


def test_a_batch_detects_in_each_image_what_the_image_alone_detects(mini):
    """Two sizes: the smaller image is padded to the greater."""
    model, expected, _ = mini
    model.eval()
    image = expected["image_bgr"]
    batch = [model_input(image), model_input(image[:, :128, :160])]
    with torch.no_grad():
        together = [item["instances"] for item in model(batch)]
        alone = [model([item])[0]["instances"] for item in batch]
    assert len(together[0]) == len(alone[0]) == 100
    torch.testing.assert_close(together[0].scores, alone[0].scores, rtol=1e-4, atol=1e-5)
    # Padding reaches what lies at the border, so the second differs; but in its own image it stays.
    boxes = together[1].pred_boxes.tensor
    assert len(boxes) > 0 and boxes[:, 2].max() <= 160 and boxes[:, 3].max() <= 128


def test_training_scalars_have_the_detectors_name(name, mini):
    model, expected, _ = mini
    model.train()
    with EventStorage() as storage:
        model(training_input(expected))
    scalars = {key: value for key, (value, _) in storage.latest().items()}
    prefix = type(model).__name__.lower()
    assert scalars[f"{prefix}/num_pos"] >= len(expected["gt_boxes"])
    # The middles of two boxes, which FoveaBox learns, hold no cell's centre.
    assert scalars[f"{prefix}/gts_without_positive"] == (2 if name == "mini_fovea" else 0)
    assert 0 < scalars[f"{prefix}/mean_iou"] < 1


def check_equal(actual, expected):
    assert len(actual) == len(expected) > 0 and actual.image_size == expected.image_size
    assert torch.equal(actual.pred_classes, expected.pred_classes)
    assert (actual.pred_boxes.tensor - expected.pred_boxes.tensor).abs().max() < 1e-3
    torch.testing.assert_close(actual.scores, expected.scores, rtol=0, atol=1e-6)


def test_one_view_is_plain_inference(mini):
    model, expected, cfg = mini
    model.eval()
    (item,) = training_input(expected)
    with torch.no_grad():
        wanted = model([item])[0]["instances"]
        augmented = augmented_model(with_tta(cfg, [0]), model)([item])[0]["instances"]
    check_equal(augmented, wanted)


@of_locations
def test_an_oracle_that_replaces_nothing_is_plain_inference(mini):
    model, expected, _ = mini
    model.eval()
    (item,) = training_input(expected)
    with torch.no_grad():
        wanted = model([item])[0]["instances"]
        replaced = oracle_detections(model, [item])
    plain = "plain_ctr" if "plain_ctr" in replaced else "plain"
    check_equal(replaced[plain][0]["instances"], wanted)


@of_locations
def test_the_oracle_knows_the_class_of_every_location_that_learns_one(mini):
    model, expected, _ = mini
    model.eval()
    (item,) = training_input(expected)
    with torch.no_grad():
        (found,) = oracle_detections(model, [item])["gt_cls"]
        targets = model.assign(*model.predict([item]), [item["instances"]])
    certain = found["instances"].scores == 1
    assert len(targets.classes) > 0
    assert set(found["instances"].pred_classes[certain].tolist()) == set(targets.classes.tolist())


@of_locations
def test_inference_in_bfloat16_is_near(mini):
    model, expected, cfg = mini
    node = cfg.MODEL[cfg.MODEL.META_ARCHITECTURE.upper()]
    node.PRECISION_TEST = "bfloat16"
    half = build_model(cfg)
    half.load_state_dict(model.state_dict())
    model.eval(), half.eval()
    batch = [model_input(expected["image_bgr"])]
    with torch.no_grad():
        exact, found = (m(batch)[0]["instances"] for m in (model, half))
    assert found.scores.dtype == found.pred_boxes.tensor.dtype == torch.float32
    assert not torch.equal(found.scores, exact.scores)
    torch.testing.assert_close(found.scores, exact.scores, rtol=0.05, atol=0.02)


def test_a_traced_detector_finds_the_same_at_another_size(mini):
    model, expected, _ = mini
    model.eval().requires_grad_(False)

    def detect(image):
        found = model([{"image": image}])[0]["instances"]
        return found.pred_boxes.tensor, found.scores, found.pred_classes

    image = expected["image_bgr"].flip(0).float()
    with torch.no_grad():
        traced = torch.jit.trace(detect, (image[:, :128, :160],), check_trace=False)
        actual, wanted = traced(image), detect(image)
    assert len(wanted[0]) > 10
    for one, other in zip(actual, wanted):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)
