"""The oracle study of a whole model: its detections, its data and its scores."""

import math

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances

from tests.engine.tiny import tiny_config
from tests.evaluation.coco_files import annotation, own_config, write_coco
from vfnet.engine import Trainer
from vfnet.errors import UserError
from vfnet.evaluation.oracle import (
    CENTERNESS_KINDS,
    KINDS,
    annotated_records,
    build_annotated_loader,
    oracle_detections,
    oracle_replacement,
    oracle_scores,
)


def tiny_model(*overrides):
    torch.manual_seed(0)
    return build_model(tiny_config("unused", *overrides)).eval()


def item(size, boxes, classes):
    """An image of noise, half as large in the file: detections are given in the file's pixels."""
    height, width = size
    image = torch.rand(3, *size, generator=torch.Generator().manual_seed(height)) * 255
    instances = Instances(
        size, gt_boxes=Boxes(boxes), gt_classes=torch.tensor(classes, dtype=torch.int64)
    )
    output = {"height": height // 2, "width": width // 2}
    return {"image": image, "instances": instances, **output}


# Apart from each other; of unlike sizes, the second image with much padding.
BOXES = (
    torch.tensor([[4.0, 6.0, 60.0, 70.0], [70.0, 10.0, 110.0, 60.0], [64.0, 60.0, 120.0, 92.0]]),
    torch.tensor([[6.0, 2.0, 30.0, 26.0], [34.0, 30.0, 62.0, 60.0]]),
)
BATCH = [
    item((96, 128), BOXES[0], [0, 2, 2]),
    item((64, 64), BOXES[1], [1, 1]),
    item((64, 96), torch.zeros(0, 4), []),
]


@pytest.mark.parametrize("refine", ["True", "False"])
def test_nothing_replaced_is_the_model_itself_bit_for_bit(refine):
    model = tiny_model("MODEL.VFNET.SCORE_THRESH_TEST", "0.0", "MODEL.VFNET.REFINE_BOX", refine)
    with torch.no_grad():
        plain, expected = oracle_detections(model, BATCH)["plain"], model(BATCH)
    for actual, own in zip(plain, expected):
        actual, own = actual["instances"], own["instances"]
        assert len(own) > 0 and actual.image_size == own.image_size
        assert torch.equal(actual.pred_boxes.tensor, own.pred_boxes.tensor)
        assert torch.equal(actual.scores, own.scores)
        assert torch.equal(actual.pred_classes, own.pred_classes)


def test_centerness_multiplies_scores_in_rows_of_its_own():
    model = tiny_model("MODEL.META_ARCHITECTURE", "ATSS", "MODEL.ATSS.SCORE_THRESH_TEST", "0.0")
    torch.nn.init.zeros_(model.head.centerness_pred.weight)  # every centerness is 1/2
    with torch.no_grad():
        found, expected = oracle_detections(model, BATCH), model(BATCH)
    assert set(found) == {*KINDS, *CENTERNESS_KINDS}
    for actual, own in zip(found["plain_ctr"], expected):
        assert torch.equal(actual["instances"].scores, own["instances"].scores)
        assert torch.equal(
            actual["instances"].pred_boxes.tensor, own["instances"].pred_boxes.tensor
        )
    best = {kind: results[0]["instances"].scores[0].item() for kind, results in found.items()}
    assert best["plain_ctr"] == pytest.approx(best["plain"] / 2)
    assert (best["gt_cls"], best["gt_cls_ctr"]) == (1.0, 0.5)


def run_network(model):
    images = model.preprocess_image(BATCH)
    features = model.backbone(images.tensor)
    features = [features[name] for name in model.head_in_features]
    predictions = model.head(features)
    gt_instances = [item["instances"] for item in BATCH]
    return images, features, predictions, model.assign(images, features, predictions, gt_instances)


def test_boxes_at_positives_of_a_random_model_decode_to_their_ground_truth():
    model = tiny_model()
    with torch.no_grad():
        _, features, predictions, targets = run_network(model)
    points = model.points(features)
    boxes, scores = model.detected_boxes(predictions, points), model.scores(predictions)
    _, boxes = oracle_replacement(scores, boxes, targets, "gt_bbox")
    image = targets.index // len(points)
    torch.testing.assert_close(boxes[targets.index], targets.boxes, rtol=0, atol=1e-4)
    # Both images with ground truth have positives.
    assert set(image.tolist()) == {0, 1}


def test_perfect_boxes_and_classes_are_the_ground_truth_of_each_image_of_a_batch():
    # Random weights have no score above the threshold: only what is replaced is detected.
    model = tiny_model()
    with torch.no_grad():
        images, features, predictions, targets = run_network(model)
        boxes = model.detected_boxes(predictions, model.points(features))
        scores = model.scores(predictions)
        for kind in ("gt_bbox", "gt_cls_only"):
            scores, boxes = oracle_replacement(scores, boxes, targets, kind)
        candidates = model.choose(images, features, scores, boxes)
        results = [model.suppress(*pair) for pair in zip(candidates, images.image_sizes)]
    for found, given in zip(results, BATCH):
        truth = given["instances"]
        order = found.pred_boxes.tensor[:, 0].argsort()
        expected = truth.gt_boxes.tensor[:, 0].argsort()
        torch.testing.assert_close(
            found.pred_boxes.tensor[order], truth.gt_boxes.tensor[expected], rtol=0, atol=1e-4
        )
        assert torch.equal(found.pred_classes[order], truth.gt_classes[expected])
        assert (found.scores > 0.99).all()


def test_detections_are_given_in_the_pixels_of_the_file():
    with torch.no_grad():
        found = oracle_detections(tiny_model(), BATCH)["gt_cls"]
    assert [f["instances"].image_size for f in found] == [(48, 64), (32, 32), (32, 48)]
    assert len(found[0]["instances"]) >= 3 and len(found[2]["instances"]) == 0


@pytest.fixture
def own(tmp_path):
    """Register three pictures with these annotations; return a config to test on them."""
    before = dict(DatasetCatalog), dict(MetadataCatalog)

    def make(annotations, *overrides):
        file = write_coco(tmp_path / "images", annotations)
        return own_config(tmp_path / "out", {"own": file}, *overrides)

    yield make
    for catalog, content in zip((DatasetCatalog, MetadataCatalog), before):
        catalog.clear()
        catalog.update(content)


ANNOTATIONS = [
    annotation(1, 5, 3, [10, 12, 40, 50]),
    annotation(2, 5, 90, [0, 0, 128, 96], iscrowd=1),
    annotation(3, 11, 7, [100, 60, 40, 50]),  # sticks out of 128 x 96
]


@pytest.mark.parametrize("resize", ["pil", "cv2"])
def test_ground_truth_is_that_of_the_resized_picture_without_crowds_and_flips(own, resize):
    cfg = own(ANNOTATIONS, "INPUT.RESIZE", resize)
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 192, 256
    batches = list(build_annotated_loader(cfg, annotated_records(cfg, "own")))
    assert [len(batch) for batch in batches] == [1, 1, 1]
    first, second, third = (batch[0] for batch in batches)
    for mapped in (first, second, third):
        assert mapped["image"].shape == (3, 192, 256)
        assert (mapped["height"], mapped["width"]) == (96, 128)
    assert first["instances"].gt_boxes.tensor.tolist() == [[20, 24, 100, 124]]
    assert first["instances"].gt_classes.tolist() == [0]
    assert second["instances"].gt_boxes.tensor.tolist() == [[200, 120, 256, 192]]
    assert len(third["instances"]) == 0


def test_records_are_spread_over_the_data_set(own):
    cfg = own(ANNOTATIONS)
    assert [r["image_id"] for r in annotated_records(cfg, "own", 2)] == [5, 200]
    assert [r["image_id"] for r in annotated_records(cfg, "own", 7)] == [5, 11, 200]


@pytest.mark.parametrize("annotations", [None, [], ANNOTATIONS[1:2]], ids=["no", "none", "crowd"])
def test_data_without_ground_truth_is_refused(own, annotations):
    cfg = own(annotations)
    with pytest.raises(UserError, match="ground truth in own .*found none in 3 images"):
        annotated_records(cfg, "own")


def test_data_with_other_classes_than_the_model_is_refused(own):
    cfg = own(ANNOTATIONS)
    cfg.MODEL.VFNET.NUM_CLASSES = 4
    with pytest.raises(UserError, match=r"own has 3 classes.*NUM_CLASSES is 4"):
        annotated_records(cfg, "own")


def test_plain_has_the_scores_of_the_models_own_evaluation_and_every_row_its_own(own):
    cfg = own(ANNOTATIONS, "MODEL.VFNET.SCORE_THRESH_TEST", "0.0")
    torch.manual_seed(0)
    model = build_model(cfg)
    torch.nn.init.constant_(model.head.box_pred.bias, math.log(0.5))  # boxes as large as anchors
    model.train()
    scores = oracle_scores(model, build_annotated_loader(cfg, annotated_records(cfg, "own")), "own")
    assert model.training
    assert list(scores) == list(KINDS)
    expected = Trainer.test(cfg, model)["bbox"]
    assert scores["plain"] == {name: expected[name] for name in ("AP", "AP50", "AP75")}
    assert scores["gt_cls_iou_only"]["AP50"] > scores["plain"]["AP50"] > 0


def test_a_data_set_without_a_json_file_is_scored_and_left_as_it_was():
    cfg = tiny_config("unused", "DATASETS.TEST", "('shapes_val',)")
    records = annotated_records(cfg, "shapes_val", 2)
    # An evaluation before this test may have left the file it made.
    vars(MetadataCatalog.get("shapes_val")).pop("json_file", None)
    torch.manual_seed(0)
    for _ in range(2):
        scores = oracle_scores(build_model(cfg), build_annotated_loader(cfg, records), "shapes_val")
        assert scores["plain"] == {"AP": 0.0, "AP50": 0.0, "AP75": 0.0}
        assert not MetadataCatalog.get("shapes_val").get("json_file")
