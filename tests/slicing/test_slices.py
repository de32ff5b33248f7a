"""vfnet.slicing with the real SAHI: what slices find becomes what the picture holds."""

import os

import cv2
import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from PIL import Image

from tests.extras import needs

pytestmark = needs("sahi")

from sahi.postprocess.backends import get_postprocess_backend  # noqa: E402
from sahi.predict import get_prediction, get_sliced_prediction  # noqa: E402

from tests.conftest import REPOSITORY  # noqa: E402
from tests.minis import mini_config  # noqa: E402
from tests.slicing.demo import run_demo  # noqa: E402
from vfnet.predictor import Predictor  # noqa: E402
from vfnet.sahi_model import VFNetDetectionModel  # noqa: E402
from vfnet.slicing import DetectorWithSlices, SlicedDetector, Slicing  # noqa: E402

COLOURS = ((255, 0, 0), (0, 0, 255))  # BGR: class 0 is blue, class 1 is red


class Spots:
    """Finds the spots of each colour in pictures that are black elsewhere, large ones surer."""

    def __init__(self, smallest_area=0):
        self.smallest_area = smallest_area
        self.batches = []

    def __call__(self, images):
        self.batches.append([image.shape[:2] for image in images])
        return [{"instances": self.find(image)} for image in images]

    def find(self, image):
        boxes, classes = [], []
        for class_, colour in enumerate(COLOURS):
            mask = (image == colour).all(axis=2).astype(np.uint8)
            for x, y, width, height, area in cv2.connectedComponentsWithStats(mask)[2][1:]:
                if area >= self.smallest_area:
                    boxes.append([x, y, x + width, y + height])
                    classes.append(class_)
        boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
        scores = Boxes(boxes).area() / 10_000
        order = scores.argsort(descending=True, stable=True)
        classes = torch.tensor(classes, dtype=torch.int64)
        size = image.shape[:2]
        return Instances(
            size,
            pred_boxes=Boxes(boxes[order]),
            scores=scores[order],
            pred_classes=classes[order],
        )


def picture(*spots, size=(300, 400)):
    """A black picture of (H, W) with spots (class, x, y, edge)."""
    pixels = np.zeros((*size, 3), np.uint8)
    for class_, x, y, edge in spots:
        pixels[y : y + edge, x : x + edge] = COLOURS[class_]
    return pixels


def found(result):
    """Detections as sorted (class, x, y, edge)."""
    instances = result["instances"]
    rows = zip(instances.pred_classes.tolist(), instances.pred_boxes.tensor.tolist())
    return sorted((class_, x0, y0, x1 - x0) for class_, (x0, y0, x1, _) in rows)


def slicing(**values):
    return Slicing(**{"size": 100, "overlap": 0.2, "threshold": 0.5, **values})


# The second lies in the overlap of two slices, the third in that of four.
SPOTS = [(0, 10, 20, 12), (1, 84, 30, 12), (0, 245, 164, 10), (1, 380, 280, 15)]


def test_every_object_is_found_once_where_it_is():
    detector = SlicedDetector(Spots(), slicing(), batch_size=4)
    result = detector(picture(*SPOTS))
    assert found(result) == sorted(SPOTS)
    assert result["instances"].image_size == (300, 400)
    scores = result["instances"].scores
    assert torch.equal(scores, scores.sort(descending=True).values)


def test_slices_come_in_batches_and_the_whole_picture_last():
    detect = Spots()
    SlicedDetector(detect, slicing(), batch_size=4)(picture(*SPOTS))
    # 80 pixels apart: at 0 to 200 (4 of them), and 0 to 300 (5 of them).
    assert detect.batches == [[(100, 100)] * 4] * 5 + [[(300, 400)]]


def test_objects_larger_than_a_slice_are_found_in_the_whole_picture():
    large = (0, 50, 60, 150)
    with_whole = SlicedDetector(Spots(), slicing())
    without = SlicedDetector(Spots(), slicing(full_picture=False))
    assert large in found(with_whole(picture(large)))
    assert large not in found(without(picture(large)))


def test_parts_of_an_object_are_merged_with_it_by_intersection_over_the_smaller_area():
    large = (0, 50, 60, 150)
    by_iou = SlicedDetector(Spots(), slicing())(picture(large))
    by_ios = SlicedDetector(Spots(), slicing(metric="ios"))(picture(large))
    assert len(found(by_iou)) > 1
    assert found(by_ios) == [large]


@pytest.mark.parametrize("merge", ["nmm", "greedy_nmm"])
def test_parts_of_an_object_become_one_box(merge):
    # Of 110 pixels, which no slice holds: two parts, of 100 and of 60 pixels, share 50.
    wide = picture(size=(100, 160))
    wide[40:60, 0:110] = COLOURS[0]
    options = slicing(overlap=0.5, merge=merge, threshold=0.3, full_picture=False)
    assert found(SlicedDetector(Spots(), options)(wide)) == [(0, 0, 40, 110)]


def test_an_object_does_not_suppress_one_of_another_class():
    def detect(images):
        spots = Spots()
        first = [spots.find(image) for image in images]
        both = []
        for instances in first:
            other = Instances(instances.image_size, **instances.get_fields())
            other.pred_classes = 1 - instances.pred_classes
            both.append({"instances": Instances.cat([instances, other])})
        return both

    assert found(SlicedDetector(detect, slicing())(picture((0, 84, 30, 12)))) == [
        (0, 84, 30, 12),
        (1, 84, 30, 12),
    ]


def test_a_picture_that_is_one_slice_gives_what_the_detector_gives():
    given = {"instances": object()}
    assert SlicedDetector(lambda images: [given], slicing())(picture(size=(100, 60))) is given


def test_the_best_are_kept():
    detector = SlicedDetector(Spots(), slicing(), max_detections=2)
    assert found(detector(picture(*SPOTS))) == [(0, 10, 20, 12), (1, 380, 280, 15)]


def test_nothing_found_is_no_detections():
    instances = SlicedDetector(Spots(), slicing())(picture())["instances"]
    assert len(instances) == 0 and instances.pred_boxes.tensor.shape == (0, 4)


def test_what_sahi_sets_for_the_whole_process_is_undone(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200_000)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    backend, limits = get_postprocess_backend(), set()

    def detect(images):
        limits.add(Image.MAX_IMAGE_PIXELS)
        return Spots()(images)

    SlicedDetector(detect, slicing())(picture(*SPOTS))
    assert limits == {200_000}  # other threads may read pictures meanwhile
    assert Image.MAX_IMAGE_PIXELS == 200_000
    assert get_postprocess_backend() == backend
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


@pytest.fixture(scope="module")
def cfg():
    cfg = mini_config(REPOSITORY / "tests" / "reference", "mini_r50")
    cfg.MODEL.DEVICE = "cpu"
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST, cfg.INPUT.RESIZE = 72, 200, "pil"
    cfg.MODEL.VFNET.CLASS_NAMES = [f"thing {i}" for i in range(cfg.MODEL.VFNET.NUM_CLASSES)]
    return cfg


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(0).integers(0, 256, (96, 160, 3), dtype=np.uint8)


def test_sahi_finds_what_the_predictor_finds_and_calls_it_by_its_name(cfg, noise, tmp_path):
    expected = Predictor(None, cfg)(noise)["instances"]
    (tmp_path / "config.yaml").write_text(cfg.dump())
    model = VFNetDetectionModel(
        cfg.MODEL.WEIGHTS, config_path=str(tmp_path / "config.yaml"), confidence_threshold=0.0
    )
    predictions = get_prediction(Image.fromarray(noise[:, :, ::-1]), model).object_prediction_list
    assert len(predictions) == len(expected) > 0
    boxes = torch.tensor([p.bbox.to_xyxy() for p in predictions])
    assert torch.equal(boxes, expected.pred_boxes.tensor)
    assert [p.score.value for p in predictions] == expected.scores.tolist()
    assert [p.category.id for p in predictions] == expected.pred_classes.tolist()
    assert all(p.category.name == f"thing {p.category.id}" for p in predictions)
    assert model.num_categories == 5


def test_the_threshold_of_a_call_to_sahi_counts(cfg, noise):
    predictor = Predictor(None, cfg)
    scores = predictor(noise)["instances"].scores
    model = VFNetDetectionModel(model=predictor, confidence_threshold=0.0)
    threshold = scores[len(scores) // 2].item()
    call = {"verbose": 0, "perform_standard_pred": False, "confidence_threshold": threshold}
    result = get_sliced_prediction(Image.fromarray(noise), model, 96, 96, **call)
    assert all(p.score.value >= threshold for p in result.object_prediction_list)
    assert model.confidence_threshold == 0.0


def test_a_predictor_with_slices_merges_what_it_finds_without(cfg, noise):
    plain = Predictor(None, cfg)
    options = Slicing(96, overlap=0.25)
    instances = Predictor(None, cfg, slicing=options, batch_size=2)(noise)["instances"]
    parts = [(0, noise[:, :96]), (64, noise[:, 64:]), (0, noise)]
    boxes, scores = [], []
    for shift, part in parts:
        of_part = plain(np.ascontiguousarray(part))["instances"]
        boxes.append(of_part.pred_boxes.tensor + torch.tensor([shift, 0, shift, 0]))
        scores.append(of_part.scores)
    boxes, scores = torch.cat(boxes), torch.cat(scores)
    assert 0 < len(instances) <= min(len(boxes), cfg.TEST.DETECTIONS_PER_IMAGE)
    # Each is one of theirs, and of all the best is there.
    difference = (instances.pred_boxes.tensor[:, None] - boxes).abs().amax(dim=2)
    torch.testing.assert_close(
        difference.amin(dim=1), torch.zeros(len(instances)), atol=1e-3, rtol=0
    )
    torch.testing.assert_close(instances.scores[0], scores.max())


def test_a_predictor_looks_at_slices_where_the_config_says_so(cfg, noise):
    sliced = cfg.clone()
    sliced.TEST.SLICE.SIZE = 96
    by_config = Predictor(None, sliced)(noise)["instances"]
    by_argument = Predictor(None, cfg, slicing=Slicing(96))(noise)["instances"]
    assert torch.equal(by_config.pred_boxes.tensor, by_argument.pred_boxes.tensor)
    assert torch.equal(by_config.scores, by_argument.scores)


def test_the_demo_writes_what_the_predictor_finds(cfg, noise, tmp_path):
    (tmp_path / "config.yaml").write_text(cfg.dump())
    Image.fromarray(noise[:, :, ::-1]).save(tmp_path / "a.png")
    words = ("--config-file", tmp_path / "config.yaml", "--confidence-threshold", "0.1")
    slices = ("--slice", "64", "--overlap", "0.25", "--batch-size", "3")
    records = run_demo(tmp_path / "a.png", tmp_path / "out", *words, *slices)
    predictor = Predictor(None, cfg, confidence_threshold=0.1, slicing=Slicing(64, overlap=0.25))
    expected = predictor(noise)["instances"]
    assert len(records) == len(expected) > 0
    boxes = torch.tensor([record["box"] for record in records])
    torch.testing.assert_close(boxes, expected.pred_boxes.tensor, rtol=1e-5, atol=1e-3)
    assert [record["class_id"] for record in records] == expected.pred_classes.tolist()


@pytest.mark.parametrize("suppression", ["nms", "soft_nms_linear"])
def test_of_a_picture_that_is_one_slice_evaluation_scores_the_same(cfg, noise, suppression):
    cfg = cfg.clone()
    cfg.MODEL.VFNET.NMS_TYPE = suppression
    cfg.TEST.SLICE.SIZE = 160
    predictor = Predictor(None, cfg)
    expected = predictor(noise)["instances"]
    model = DetectorWithSlices.from_config(cfg, predictor._model)
    image = torch.from_numpy(noise[:, :, ::-1].transpose(2, 0, 1).copy())  # RGB, as the mapper's
    (result,) = model([{"image": image, "height": 96, "width": 160}])
    assert torch.equal(result["instances"].pred_boxes.tensor, expected.pred_boxes.tensor)
    assert torch.equal(result["instances"].scores, expected.scores)
    assert torch.equal(result["instances"].pred_classes, expected.pred_classes)
