"""Test-time augmentation of whole models: detections, predictor, evaluation."""

import json

import cv2
import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image
from torch import nn

from tests.evaluation.coco_files import SIZE, annotation, own_config, write_coco
from tests.minis import load_mini
from tests.modeling.inference.tta_views import augmented_model, pil_resized, with_tta
from vfnet.engine import Trainer
from vfnet.predictor import build_predictor


@pytest.fixture(params=["mini_r50", "mini_vfnetx"])
def mini(request, repository):
    """A small detector with the reference's weights, its config, and an image (3, 200, 280)."""
    folder = repository / "tests" / "reference"
    if request.param != "mini_r50":  # soft-NMS
        folder = request.getfixturevalue("shared") / "reference"
    return with_image(folder, request.param)


@pytest.fixture
def mini_r50(repository):
    return with_image(repository / "tests" / "reference", "mini_r50")


def with_image(folder, name):
    model, numbers, cfg = load_mini(folder, name)
    return model.eval(), cfg, numbers["image_bgr"].flip(0)


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
        augmented = augmented_model(with_tta(cfg, [length]), model)
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
    found = detect(augmented_model(cfg, model), image)
    assert torch.equal(found.scores, scores) and torch.equal(found.pred_classes, classes)
    assert (found.pred_boxes.tensor - boxes).abs().max() < 1e-3


def test_images_of_a_batch_do_not_meet_and_no_detection_is_no_error(mini_r50):
    model, cfg, image = mini_r50
    augmented = augmented_model(with_tta(cfg, [64, 96], flip=True), model)
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
    cfg.INPUT.MIN_SIZE_TEST = 64  # what plain evaluation would do
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
