"""A GPU gives what the CPU gives, within 1e-3, and trains in half precision. Skipped without one.

Of gradients that is the median parameter's: a ReLU's input beside 0 takes either side.

Networks without DCNv2: on random weights it amplifies rounding a millionfold. Its layer is compared
alone.
"""

import copy
from functools import partial
from itertools import repeat
from statistics import median

import pytest
import torch
from detectron2.engine import DefaultPredictor
from detectron2.structures import Boxes, Instances
from torch.nn import functional as F

from lib.models import Subject, Workload
from lib.runs import Bench
from lib.variants import CUDA_GRAPHS, agreement
from tests.compare import relative_difference
from tests.minis import folder_of, load_mini, model_input
from vfnet.engine import StepTrainer
from vfnet.layers.deform_conv import DeformConvV1WithOffset, DeformConvWithOffset
from vfnet.layers.star_conv import StarDeformConv, star_offsets
from vfnet.modeling.losses.varifocal_sum import varifocal_loss_sum
from vfnet.modeling.matching.atss import atss_match

DEVICE = "cuda"
HALF = [torch.float16, torch.bfloat16]
VFNETS = ["mini_r50", "mini_x50", "mini_r2_50"]
FAMILY = [f"mini_{name}" for name in ("atss", "gfl", "gflv2", "fovea", "reppoints")]
FAMILY += ["mini_retinanet", "mini_libra_retinanet"]

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


@pytest.fixture(autouse=True)
def full_float32(monkeypatch):
    """Convolutions and products without TF32, whose 10 bits of mantissa are worth 1e-3."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)


@pytest.fixture(params=VFNETS)
def mini(request):
    """A small VFNet with the reference's weights, its config and a picture with boxes."""
    return with_record(folder_of(request.param, request), request.param)


@pytest.fixture(params=[*VFNETS, *FAMILY])
def any_mini(request):
    """The same of each detector."""
    return with_record(folder_of(request.param, request), request.param)


@pytest.fixture
def mini_r50(repository):
    return with_record(repository / "tests" / "reference", "mini_r50")


def with_record(folder, name):
    model, numbers, cfg = load_mini(folder, name)
    record = model_input(numbers["image_bgr"], numbers["gt_boxes"], numbers["gt_classes"])
    return model, cfg, record


def on_both(model):
    """The model on the CPU, and the same on the GPU."""
    return model, copy.deepcopy(model).to(DEVICE)


def assert_close(actual, expected, tolerance, name=""):
    assert relative_difference(actual.detach().cpu().float(), expected.detach()) < tolerance, name


def test_outputs_of_the_head(mini):
    model, _, record = mini
    outputs = []
    for detector in on_both(model.eval()):
        with torch.no_grad():
            features = detector.backbone(detector.preprocess_image([record]).tensor)
            outputs.append(detector.head([features[name] for name in detector.head_in_features]))
    for name in ("logits", "distances", "refined_distances"):
        expected, actual = (getattr(output, name) for output in outputs)
        assert len(actual) == 5
        for level, (left, right) in enumerate(zip(actual, expected)):
            assert_close(left, right, 1e-3, f"{name} of level {level}")


def test_losses_and_gradients(any_mini):
    model, _, record = any_mini
    both = on_both(model.train())
    expected, actual = (detector([record]) for detector in both)
    assert len(expected) > 1 and set(actual) == set(expected)
    for name, loss in expected.items():
        assert actual[name].item() == pytest.approx(loss.item(), rel=1e-3), name
    for losses in (expected, actual):
        sum(losses.values()).backward()
    gradients = [
        {n: p.grad.cpu() for n, p in detector.named_parameters() if p.grad is not None}
        for detector in both
    ]
    found = {n: relative_difference(gradients[1][n], g) for n, g in gradients[0].items()}
    # Of an input that rounding alone puts above or below 0, a ReLU passes the gradient here and not
    # there: in the worst case seen that reached a third of the parameters, those before it.
    assert median(found.values()) < 1e-3, found
    squares = [
        [(gradients[1][n] - g).square().sum().item(), g.square().sum().item()]
        for n, g in gradients[0].items()
    ]
    difference, whole = map(sum, zip(*squares))
    assert difference < 0.1**2 * whole, found


def test_detections(any_mini):
    model, _, record = any_mini
    with torch.no_grad():
        expected, actual = (
            detector([record])[0]["instances"] for detector in on_both(model.eval())
        )
    found = agreement([expected.to("cpu")], [actual.to("cpu")])
    assert len(expected) == 100
    # The last ranks may go to another of two scores that rounding tells apart.
    assert found.matched >= 98
    assert found.box < 0.1
    assert found.score < 1e-3


def test_the_predictor(mini):
    _, cfg, record = mini
    picture = record["image"].flip(0).permute(1, 2, 0).numpy()
    found = []
    for device in ("cpu", DEVICE):
        cfg.MODEL.DEVICE = device
        instances = DefaultPredictor(cfg)(picture)["instances"]
        assert instances.scores.device.type == torch.device(device).type
        found.append(instances.to("cpu"))
    assert agreement(found[:1], found[1:]).matched >= 98


def test_assignment_is_equal():
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(200, 2, generator=generator) * 500
    boxes = torch.cat((corner, corner + 4 + 300 * torch.rand(200, 2, generator=generator)), dim=1)
    sizes = [(-(-640 // s), -(-800 // s)) for s in (8, 16, 32, 64, 128)]
    expected = atss_match(boxes, sizes, [8, 16, 32, 64, 128])
    actual = atss_match(boxes.to(DEVICE), sizes, [8, 16, 32, 64, 128])
    assert len(expected[0]) > 1000
    for left, right in zip(actual, expected):
        assert torch.equal(left.cpu(), right)


def star(device, precision=None):
    """Result and gradients of a star layer on a device."""
    generator = torch.Generator().manual_seed(0)
    layer = StarDeformConv(16, 8)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(8, 16, 3, 3, generator=generator) / 12)
    x = torch.randn(2, 16, 21, 17, generator=generator)
    distances = 60 * torch.rand(2, 4, 21, 17, generator=generator)
    x, distances = (tensor.to(device).requires_grad_() for tensor in (x, distances))
    layer.to(device)
    with torch.autocast(device, precision, enabled=precision is not None):
        out = layer(x, star_offsets(distances, 8))
    return [out, *torch.autograd.grad(out.float().sin().sum(), (x, distances, layer.weight))]


def dcn(device, precision=None, layer_class=DeformConvWithOffset):
    """Result and gradients of a deformable layer of stride 2 on a device."""
    generator = torch.Generator().manual_seed(0)
    layer = layer_class(16, 8, stride=2)
    with torch.no_grad():
        offset = layer.offset.weight
        offset.copy_(0.1 * torch.randn(offset.shape, generator=generator))
        layer.weight.copy_(torch.randn(8, 16, 3, 3, generator=generator) / 12)
    x = torch.randn(2, 16, 21, 17, generator=generator).to(device).requires_grad_()
    layer.to(device)
    with torch.autocast(device, precision, enabled=precision is not None):
        out = layer(x)
    return [out, *torch.autograd.grad(out.float().sin().sum(), (x, *layer.parameters()))]


@pytest.mark.parametrize("layer", [star, dcn, partial(dcn, layer_class=DeformConvV1WithOffset)])
def test_a_deformable_layer_and_its_gradients(layer):
    expected, actual = layer("cpu"), layer(DEVICE)
    for index, (left, right) in enumerate(zip(actual, expected)):
        assert_close(left, right, 1e-3, str(index))


@pytest.mark.parametrize("precision", HALF)
def test_the_star_under_autocast(precision):
    expected, actual = star("cpu"), star(DEVICE, precision)
    for index, (left, right) in enumerate(zip(actual, expected)):
        assert_close(left, right, 0.03, str(index))


def test_the_sum_of_varifocal_loss():
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(900, 80, generator=generator)
    row = torch.randperm(900, generator=generator)[:70]
    column = torch.randint(80, (70,), generator=generator)
    quality = torch.rand(70, generator=generator)
    results = []
    for device in ("cpu", DEVICE):
        x = logits.to(device).requires_grad_()
        loss = varifocal_loss_sum(x, *(t.to(device) for t in (row, column, quality)))
        (gradient,) = torch.autograd.grad(loss, x)
        results.append((loss, gradient))
    for expected, actual in zip(*results):
        assert_close(actual, expected, 1e-4)


@pytest.mark.parametrize("precision", HALF)
@pytest.mark.parametrize("boxes", [8, 0])
def test_training_steps_in_half_precision(mini_r50, precision, boxes):
    model, _, record = mini_r50
    model.to(DEVICE).train()
    record["instances"] = record["instances"][:boxes]
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    trainer = StepTrainer(
        model, repeat([record]), optimizer, device_type=DEVICE, precision=precision
    )
    before = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    # Float16 starts with a scale that is too large, and leaves steps out until it is not.
    trainer.train(0, 16)
    after = dict(model.named_parameters())
    assert all(after[name].isfinite().all() for name in before)
    assert any(not torch.equal(after[name], old) for name, old in before.items())


def test_padding_to_a_batch_and_pictures_without_boxes(mini_r50):
    model, _, record = mini_r50
    empty = {**record, "image": F.avg_pool2d(record["image"].float(), 2).to(torch.uint8)}
    empty["instances"] = Instances(tuple(empty["image"].shape[1:]))
    empty["instances"].gt_boxes = Boxes(torch.zeros(0, 4))
    empty["instances"].gt_classes = torch.zeros(0, dtype=torch.int64)
    for batch in ([record, empty], [empty]):
        expected, actual = (detector(batch) for detector in on_both(model.train()))
        for name, loss in expected.items():
            assert actual[name].item() == pytest.approx(loss.item(), rel=1e-3, abs=1e-6), name


@pytest.mark.parametrize("precision", [None, *HALF])
def test_cuda_graphs_keep_the_detections(repository, precision):
    workload = Workload(
        str(repository / "tests" / "engine" / "tiny.yaml"),
        device=DEVICE,
        image_size=(96, 128),
        batch=2,
        precision=precision,
    )
    bench = Bench(Subject("vfnet", CUDA_GRAPHS), workload)
    assert bench.agreement.matched == bench.agreement.expected > 10
    # Another picture is another input to the same graph.
    first = bench.detections()
    bench.batch[0]["image"] = bench.batch[0]["image"].flip(2)
    assert agreement(first[:1], bench.detections()[:1]).matched < len(first[0])
