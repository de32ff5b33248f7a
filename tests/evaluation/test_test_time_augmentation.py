"""Test-time augmentation: views, the way back to the original image, one suppression for all."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from detectron2.evaluation.evaluator import inference_context
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from PIL import Image
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from tests.evaluation.coco_files import SIZE, annotation, own_config, write_coco
from vfnet import get_cfg
from vfnet.checkpoint import VFNetCheckpointer
from vfnet.engine import Trainer, load_config
from vfnet.errors import UserError
from vfnet.evaluation.test_time_augmentation import VFNetWithTTA, build_resizes, to_original
from vfnet.modeling.suppression import Candidates
from vfnet.visualization import build_predictor


def with_tta(cfg, min_sizes, flip=False, max_size=1000, max_sizes=(), resize="pil"):
    cfg = cfg.clone()
    cfg.defrost()
    aug = cfg.TEST.AUG
    aug.ENABLED, aug.MIN_SIZES, aug.FLIP = True, tuple(min_sizes), flip
    aug.MAX_SIZE, aug.MAX_SIZES = max_size, tuple(max_sizes)
    cfg.INPUT.RESIZE = resize
    return cfg


def pil_resized(image, height, width):
    """An image (C, H, W) of bytes, resized by PIL alone."""
    pixels = Image.fromarray(image.permute(1, 2, 0).numpy())
    return torch.from_numpy(np.array(pixels.resize((width, height), Image.BILINEAR))).permute(
        2, 0, 1
    )


class Stub(nn.Module):
    """A model whose candidates of each view are given, by the order in which views come."""

    head_in_features = ()

    def __init__(self, *candidates):
        super().__init__()
        self.candidates_of_views = list(candidates)
        self.views = []

    def preprocess_image(self, items):
        (item,) = items  # more than one view at a time needs more memory
        self.views.append(item["image"])
        return SimpleNamespace(tensor=item["image"])

    def backbone(self, image):
        return {}

    def head(self, features):
        return features

    def candidates(self, images, features, predictions):
        boxes, scores = self.candidates_of_views[len(self.views) - 1]
        boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
        return [Candidates(boxes, torch.tensor(scores), torch.zeros(len(boxes), dtype=torch.int64))]

    def suppress(self, candidates, image_size):
        return Instances(
            image_size,
            pred_boxes=Boxes(candidates.boxes),
            scores=candidates.scores,
            pred_classes=candidates.classes,
        )


def noise(height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


def test_views_and_boxes_by_hand():
    box = [3.0, 4.0, 9.0, 10.0]
    stub = Stub(([box], [0.9]), ([box], [0.8]), ([box], [0.7]), ([box], [0.6])).eval()
    image = noise(40, 60)
    model = VFNetWithTTA(with_tta(get_cfg(), [20, 60], flip=True), stub)
    (result,) = model([{"image": image, "height": 40, "width": 60}])
    half, larger = pil_resized(image, 20, 30), pil_resized(image, 60, 90)
    expected_views = [half, half.flip(2), larger, larger.flip(2)]
    assert all(torch.equal(view, own) for view, own in zip(stub.views, expected_views))
    # Times 2 and times 2 / 3; mirrored, x becomes 30 - x and 90 - x first.
    assert result["instances"].pred_boxes.tensor.tolist() == [
        pytest.approx([6, 8, 18, 20]),
        pytest.approx([42, 8, 54, 20]),
        pytest.approx([2, 8 / 3, 6, 20 / 3]),
        pytest.approx([54, 8 / 3, 58, 20 / 3]),
    ]
    assert result["instances"].scores.tolist() == pytest.approx([0.9, 0.8, 0.7, 0.6])


def test_each_axis_has_its_own_scale():
    # 333 / 200 is 1.665, 500 / 300 is 1.667.
    candidates = Candidates(torch.tensor([[60.0, 50, 120, 100]]), torch.ones(1), torch.zeros(1))
    sizes = (200, 300), (333, 500)
    boxes = to_original(candidates, *sizes, mirrored=False).boxes[0].tolist()
    assert boxes == pytest.approx([100, 83.25, 200, 166.5])
    boxes = to_original(candidates, *sizes, mirrored=True).boxes[0].tolist()
    assert boxes == pytest.approx([300, 83.25, 400, 166.5])


def test_boxes_are_clipped_to_the_original_image_and_empty_ones_dropped():
    stub = Stub(([[-5.0, 2, 50, 90], [10, 4, 10, 9]], [0.9, 0.8])).eval()
    (result,) = VFNetWithTTA(with_tta(get_cfg(), [0]), stub)([{"image": noise(30, 40)}])
    assert result["instances"].image_size == (30, 40)
    assert result["instances"].pred_boxes.tensor.tolist() == [[0, 2, 40, 30]]


def test_the_scales_of_the_reference(repository):
    cfg = load_config(str(repository / "configs" / "tta" / "vfnet_R50_1x_tta.yaml"))
    assert cfg.TEST.AUG.ENABLED and cfg.TEST.AUG.FLIP

    def sizes(height, width):
        image = np.zeros((height, width, 3), np.uint8)
        transforms = [resize.get_transform(image) for resize in build_resizes(cfg)]
        return [transform.apply_image(image).shape[:2] for transform in transforms]

    assert sizes(480, 640) == [(800, 1067), (900, 1200), (1000, 1333), (1200, 1600)]
    # Here the longer side is what binds: times 4/3, 13/9, 5/3, 16/9.
    assert sizes(300, 900) == [(400, 1200), (433, 1300), (500, 1500), (533, 1600)]


def test_views_are_resized_as_the_config_says():
    stub = Stub(([], []), ([], [])).eval()
    VFNetWithTTA(with_tta(get_cfg(), [20], resize="cv2"), stub)([{"image": noise(41, 60)}])
    expected = cv2.resize(noise(41, 60).permute(1, 2, 0).numpy(), (29, 20))
    assert torch.equal(stub.views[0], torch.from_numpy(expected).permute(2, 0, 1))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"min_sizes": []}, "MIN_SIZES is empty"),
        (
            {"min_sizes": [20, 40], "max_sizes": [50]},
            "MAX_SIZES has 1 lengths, but MIN_SIZES has 2",
        ),
        ({"min_sizes": [-1]}, r"got \[-1\]"),
        ({"min_sizes": [20], "max_size": 0}, r"got \[20\] and \[0\]"),
        ({"min_sizes": [20.5]}, "whole pixels"),
        ({"min_sizes": [20], "resize": "bicubic"}, "INPUT.RESIZE"),
    ],
)
def test_bad_sizes_are_named(changes, message):
    with pytest.raises(UserError, match=message):
        VFNetWithTTA(with_tta(get_cfg(), **changes), Stub())


def test_training_mode_is_refused_and_given_back():
    model = Stub(([], [])).train()
    augmented = VFNetWithTTA(with_tta(get_cfg(), [0]), model)
    with pytest.raises(UserError, match="evaluation mode"):
        augmented([{"image": noise(8, 8)}])
    with inference_context(augmented):
        assert not model.training
    assert model.training
    model.eval()
    with inference_context(VFNetWithTTA(with_tta(get_cfg(), [0]), model)):
        pass
    assert not model.training


def test_a_model_wrapped_for_several_processes():
    store = distributed.HashStore()
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        model = nn.Linear(1, 1)
        wrapped = DistributedDataParallel(model)
        assert VFNetWithTTA(with_tta(get_cfg(), [0]), wrapped).model is model
    finally:
        distributed.destroy_process_group()


@pytest.fixture(params=["mini_r50", "mini_vfnetx"])
def mini(request, repository):
    """A small detector with the reference's weights, its config, and an image (3, 200, 280)."""
    folder = repository / "tests" / "reference"
    if request.param != "mini_r50":  # soft-NMS
        folder = request.getfixturevalue("shared") / "reference"
    return load_mini(folder / request.param)


@pytest.fixture
def mini_r50(repository):
    return load_mini(repository / "tests" / "reference" / "mini_r50")


def load_mini(path):
    cfg = get_cfg()
    cfg.merge_from_file(f"{path}.yaml")
    cfg.MODEL.WEIGHTS = f"mmdet://{path}.pth"
    model = build_model(cfg).eval()
    VFNetCheckpointer(model, whole_detector=True).load(cfg.MODEL.WEIGHTS)
    image = torch.load(f"{path}.expected.pt", weights_only=True)["image_bgr"].flip(0)
    return model, cfg, image


def detect(model, image, size=None):
    height, width = size or image.shape[1:]
    with torch.no_grad():
        (result,) = model([{"image": image, "height": height, "width": width}])
    return result["instances"]


def check_equal(actual, expected):
    assert len(actual) == len(expected) > 0 and actual.image_size == expected.image_size
    assert torch.equal(actual.pred_classes, expected.pred_classes)
    assert (actual.pred_boxes.tensor - expected.pred_boxes.tensor).abs().max() < 1e-3
    torch.testing.assert_close(actual.scores, expected.scores, rtol=0, atol=1e-6)


def test_one_view_is_plain_inference(mini):
    model, cfg, image = mini
    # As it is, and with the short side of 117: sides of 117 and 163.8.
    for length, view in ((0, image), (117, pil_resized(image, 117, 164))):
        augmented = VFNetWithTTA(with_tta(cfg, [length]), model)
        check_equal(detect(augmented, image), detect(model, view, size=(200, 280)))


def slow_detections(model, views, size, threshold, count):
    """Greedy suppression, in double precision, of [(view, mirrored)].

    The candidates are what the model itself returns if nothing is suppressed.
    """
    suppression = model.suppression
    model.suppression = lambda boxes, scores, classes: (torch.arange(len(scores)), scores)
    found = []
    for view, mirrored in views:
        instances = detect(model, view)
        boxes = instances.pred_boxes.tensor.double()
        height, width = view.shape[1:]
        if mirrored:
            boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
        boxes *= torch.tensor([size[1] / width, size[0] / height] * 2, dtype=torch.float64)
        found.append((boxes, instances.scores, instances.pred_classes))
    model.suppression = suppression
    boxes, scores, classes = (torch.cat(parts) for parts in zip(*found))
    kept = []
    for i in scores.argsort(descending=True).tolist():
        rivals = boxes[[k for k in kept if classes[k] == classes[i]]]
        sides = torch.minimum(rivals[:, 2:], boxes[i, 2:]) - torch.maximum(
            rivals[:, :2], boxes[i, :2]
        )
        common = sides.clamp(min=0).prod(dim=1)
        area = (boxes[i, 2:] - boxes[i, :2]).prod()
        areas = (rivals[:, 2:] - rivals[:, :2]).prod(dim=1)
        if (common / (area + areas - common) <= threshold).all():
            kept.append(i)
        if len(kept) == count:
            break
    return boxes[kept].float(), scores[kept], classes[kept]


def test_flip_and_two_scales_equal_a_slow_computation(mini_r50):
    model, cfg, image = mini_r50
    image = image[:, :131, :197].contiguous()
    # 197 * 90 / 131 = 135.3; 211 binds: 131 * 211 / 197 = 140.3.
    views = [pil_resized(image, 90, 135), pil_resized(image, 140, 211)]
    views = [(v, mirrored) for view in views for v, mirrored in ((view, 0), (view.flip(2), 1))]
    boxes, scores, classes = slow_detections(model, views, (131, 197), threshold=0.6, count=100)
    cfg = with_tta(cfg, [90, 150], flip=True, max_sizes=[1000, 211])
    found = detect(VFNetWithTTA(cfg, model), image)
    assert torch.equal(found.scores, scores) and torch.equal(found.pred_classes, classes)
    assert (found.pred_boxes.tensor - boxes).abs().max() < 1e-3


def test_images_of_a_batch_do_not_meet_and_no_detection_is_no_error(mini_r50):
    model, cfg, image = mini_r50
    augmented = VFNetWithTTA(with_tta(cfg, [64, 96], flip=True), model)
    images = [image[:, :100, :150], image[:, 60:, 31:]]
    together = augmented([{"image": one} for one in images])
    for one, result in zip(images, together):
        assert result["instances"].image_size == one.shape[1:]
        check_equal(result["instances"], detect(augmented, one))
    nn.init.constant_(model.head.cls_pred.bias, -1e4)
    nn.init.zeros_(model.head.cls_pred.weight)
    assert len(detect(augmented, image)) == 0


def test_the_predictor_resizes_the_original_image_once(mini_r50):
    model, cfg, image = mini_r50
    cfg.INPUT.MIN_SIZE_TEST = 64  # what the predictor would do before anything is augmented
    predictor = build_predictor(with_tta(cfg, [117]))
    found = predictor(image.flip(0).permute(1, 2, 0).numpy())["instances"]
    check_equal(found, detect(model, pil_resized(image, 117, 164), size=(200, 280)))


@pytest.mark.parametrize("resize", ["pil", "cv2"])
def test_evaluation_resizes_the_original_image_once(tmp_path, resize):
    files = {
        f"own_tta_{resize}_{i}": write_coco(
            tmp_path / str(i), [annotation(1, 5, 3, (5, 6, 50, 40))]
        )
        for i in (0, 1)
    }
    cfg = own_config(tmp_path / "out", files, "MODEL.VFNET.SCORE_THRESH_TEST", "0.0")
    model = build_model(cfg).eval()
    seen = []

    def remember(items):
        (item,) = items
        seen.append(item["image"])
        return preprocess_image(items)

    preprocess_image, model.preprocess_image = model.preprocess_image, remember
    results = Trainer.test_with_TTA(with_tta(cfg, [48], resize=resize), model)
    original = torch.from_numpy(np.array(Image.open(tmp_path / "0" / "5.png"))).permute(2, 0, 1)
    assert original.shape == (3, *SIZE)  # twice as high as the view
    if resize == "pil":
        expected = pil_resized(original, 48, 64)
    else:
        pixels = cv2.resize(original.permute(1, 2, 0).numpy(), (64, 48))
        expected = torch.from_numpy(pixels).permute(2, 0, 1)
    assert len(seen) == 6 and torch.equal(seen[0], expected)
    assert set(results) == {f"{name}_TTA" for name in files}
    for name in files:
        assert results[f"{name}_TTA"]["bbox"]["AP"] >= 0
        file = tmp_path / "out" / "inference_TTA" / name / "coco_instances_results.json"
        assert {record["image_id"] for record in json.loads(file.read_text())} == {5, 11, 200}
