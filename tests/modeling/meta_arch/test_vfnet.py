"""Whole detectors against the reference implementation, through mmdet:// weights."""

import pytest
import torch
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from tests.compare import assert_same_detections, relative_difference
from tests.minis import assert_same_gradients, folder_of, load_mini, model_input
from vfnet import get_cfg
from vfnet.checkpoint import convert_state_dict
from vfnet.errors import UserError

LOSSES = {"loss_cls": "loss_cls", "loss_bbox": "loss_box_init", "loss_bbox_rf": "loss_box_refined"}


MINIS = ["mini_r50", "mini_r50_dcn", "mini_x50", "mini_r2_50", "mini_r2_50_dcn", "mini_vfnetx"]


@pytest.fixture(params=MINIS)
def mini(request):
    """A small detector with the reference's weights, and the numbers that it must give."""
    return load_mini(folder_of(request.param, request), request.param)


@pytest.fixture
def mini_r50(repository):
    return load_mini(repository / "tests" / "reference", "mini_r50")


def check_losses(losses, expected):
    assert {LOSSES[name] for name in expected} == set(losses)
    for name, value in expected.items():
        assert losses[LOSSES[name]].item() == pytest.approx(value.item(), rel=1e-4), name


@pytest.mark.parity
def test_features_and_outputs_are_the_references(mini):
    model, expected, _ = mini
    model.eval()
    with torch.no_grad():
        image = model.preprocess_image([model_input(expected["image_bgr"])]).tensor
        backbone = model.backbone
        stages = getattr(backbone, "fpn", backbone).bottom_up(image)
        pyramid = [model.backbone(image)[name] for name in model.head_in_features]
        output = model.head(pyramid)
    for name, reference in zip(("res3", "res4", "res5"), expected["backbone"][1:]):
        assert relative_difference(stages[name], reference) < 1e-4
    for actual, name in zip(
        (pyramid, *output), ("pyramid", "cls_logits", "distances", "distances_refined")
    ):
        for level, reference in zip(actual, expected[name]):
            assert relative_difference(level, reference) < 1e-4, name


@pytest.mark.parity
def test_detections_are_the_references(mini):
    model, expected, _ = mini
    model.eval()
    with torch.no_grad():
        (result,) = model([model_input(expected["image_bgr"])])
    assert_same_detections(result["instances"], expected["detections"])


@pytest.mark.parity
def test_losses_are_the_references(mini):
    model, expected, _ = mini
    model.train()
    batch = [model_input(expected["image_bgr"], expected["gt_boxes"], expected["gt_classes"])]
    check_losses(model(batch), expected["losses"])


@pytest.mark.parity
def test_an_unmodified_default_predictor_gives_the_references_detections(mini):
    _, expected, cfg = mini
    image = expected["image_bgr"].permute(1, 2, 0).numpy()
    result = DefaultPredictor(cfg)(image)
    assert_same_detections(result["instances"], expected["detections"])


@pytest.mark.parity
def test_a_batch_of_three_sizes_is_the_references(mini_r50, repository):
    model, _, _ = mini_r50
    path = repository / "tests/reference/mini_r50.batch.expected.pt"
    expected = torch.load(path, weights_only=True)
    model.train()
    batch = [
        model_input(image["image_bgr"], image["gt_boxes"], image["gt_classes"])
        for image in expected["images"]
    ]
    check_losses(model(batch), expected["losses"])
    assert_same_gradients(model, batch, expected["grads"])

    # Frozen are exactly the reference's: Detectron2 keeps the scale and shift of a frozen batch
    # norm as buffers.
    frozen = {
        next(iter(convert_state_dict({n: torch.zeros(1)}))) for n in expected["frozen_parameters"]
    }
    learnt = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    everything = {name for name in model.state_dict() if not name.endswith(statistics)}
    assert everything - learnt == frozen

    model.eval()
    with torch.no_grad():
        results = model([model_input(image["image_bgr"]) for image in expected["images"]])
    for result, detections in zip(results, expected["detections"]):
        assert_same_detections(result["instances"], detections)


def test_both_candidate_rules_agree_where_few_locations_are_left(mini_r50):
    model, expected, cfg = mini_r50
    cfg.MODEL.VFNET.CANDIDATE_TEST = "location"
    by_location = build_model(cfg).eval()
    by_location.load_state_dict(model.state_dict())
    with torch.no_grad():
        (result,) = by_location([model_input(expected["image_bgr"])])
    # P3 has 28 x 36 = 1008 locations, 8 more than are taken.
    assert len(result["instances"]) == 100
    torch.testing.assert_close(
        result["instances"].scores, expected["detections"]["scores"], rtol=1e-4, atol=1e-6
    )


def test_training_scalars(mini_r50):
    model, expected, _ = mini_r50
    model.train()
    tiny = torch.tensor([[3.0, 3.0, 4.5, 4.5]])  # between the locations, so nothing learns it
    boxes = torch.cat((expected["gt_boxes"], tiny))
    classes = torch.cat((expected["gt_classes"], torch.tensor([0])))
    unmatched = []
    for count in (len(boxes) - 1, len(boxes)):
        with EventStorage() as storage:
            model([model_input(expected["image_bgr"], boxes[:count], classes[:count])])
            scalars = {name: value for name, (value, _) in storage.latest().items()}
        unmatched.append(scalars["vfnet/gts_without_positive"])
    assert unmatched[1] == unmatched[0] + 1
    assert scalars["vfnet/num_pos"] > 10
    assert 0 < scalars["vfnet/mean_iou_initial"] < 1
    assert 0 < scalars["vfnet/mean_iou_refined"] < 1


def test_images_without_boxes_leave_no_parameter_without_a_gradient(mini_r50):
    model, expected, _ = mini_r50
    model.train()
    empty = (torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    losses = model([model_input(expected["image_bgr"], *empty)] * 2)
    assert losses["loss_box_init"].item() == 0
    assert losses["loss_box_refined"].item() == 0
    assert losses["loss_cls"].item() > 0
    sum(losses.values()).backward()
    learnt = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in learnt)


def test_autocast_changes_the_losses_by_less_than_three_percent(mini_r50):
    model, expected, _ = mini_r50
    model.train()
    batch = [model_input(expected["image_bgr"], expected["gt_boxes"], expected["gt_classes"])]
    exact = model(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(batch)
    for name, value in exact.items():
        assert half[name].dtype == torch.float32
        assert half[name].item() == pytest.approx(value.item(), rel=0.03)
    sum(half.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


def test_positives_are_counted_exactly_under_autocast(mini_r50):
    model, expected, _ = mini_r50
    model.train()
    item = model_input(expected["image_bgr"], expected["gt_boxes"], expected["gt_classes"])
    # bfloat16 has 8 bits for a number: of those above 512 it knows every fourth.
    batch = [item] * 13
    counted = []
    for enabled in (False, True):
        with EventStorage() as storage, torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            model(batch)
        counted.append(storage.latest()["vfnet/num_pos"][0])
    assert counted[0] > 512 and counted[0] % 4 != 0
    assert counted[1] == counted[0]


def test_an_image_without_any_detection_gives_empty_instances(mini_r50):
    model, expected, _ = mini_r50
    model.eval()
    torch.nn.init.constant_(model.head.cls_pred.bias, -1e4)
    torch.nn.init.zeros_(model.head.cls_pred.weight)
    with torch.no_grad():
        (result,) = model([model_input(expected["image_bgr"])])
    assert len(result["instances"]) == 0


def test_class_names_must_fit_the_number_of_classes():
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE = "VFNet"
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.VFNET.CLASS_NAMES = ["cat", "dog"]
    with pytest.raises(UserError, match="NUM_CLASSES is 80, but CLASS_NAMES has 2"):
        build_model(cfg)


@pytest.fixture
def cuda(monkeypatch):
    """A GPU that computes in full float32."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    return torch.device("cuda")


def test_cuda_gives_the_losses_and_detections_of_the_cpu(mini_r50, cuda):
    model, expected, _ = mini_r50
    model.to(cuda).train()
    batch = [model_input(expected["image_bgr"], expected["gt_boxes"], expected["gt_classes"])]
    for name, loss in expected["losses"].items():
        assert model(batch)[LOSSES[name]].item() == pytest.approx(loss.item(), rel=1e-3)
    model.eval()
    with torch.no_grad():
        (result,) = model([model_input(expected["image_bgr"])])
    scores = result["instances"].scores.cpu()
    torch.testing.assert_close(scores, expected["detections"]["scores"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("boxes", [slice(None), slice(0)])
def test_a_training_step_under_autocast_on_cuda(mini_r50, cuda, dtype, boxes):
    model, expected, _ = mini_r50
    model.to(cuda).train()
    gt = (expected["gt_boxes"][boxes], expected["gt_classes"][boxes])
    batch = [model_input(expected["image_bgr"], *gt)]
    exact = model(batch)
    with torch.autocast("cuda", dtype=dtype):
        half = model(batch)
    for name, value in exact.items():
        assert half[name].item() == pytest.approx(value.item(), rel=0.03, abs=1e-6)
    sum(half.values()).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
