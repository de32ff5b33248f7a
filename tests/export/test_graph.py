"""The graph of a detector detects what the detector does, and torch.export takes it."""

import pytest
import torch
from detectron2.modeling import build_model
from torch._dynamo import exc

from tests.engine.tiny import tiny_config
from tests.engine.tiny_libra import libra_config
from tests.export.detectors import DETECTORS, pixels, tiny_detector, tiny_graph
from vfnet.errors import UserError
from vfnet.export.graph import DetectorGraph
from vfnet.export.padding import pad_together
from vfnet.export.program import export_program

SIZES = ((96, 128), (90, 70))


def assert_close_detections(outputs, i, expected):
    boxes, scores, classes, number = (output[i] for output in outputs)
    assert number == len(expected) > 3
    torch.testing.assert_close(boxes[:number], expected.pred_boxes.tensor, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(scores[:number], expected.scores, rtol=1e-4, atol=1e-5)
    assert torch.equal(classes[:number], expected.pred_classes)


@pytest.mark.parametrize("candidates", ["pair", "location"])
@pytest.mark.parametrize("name", DETECTORS)
def test_a_graph_detects_what_its_detector_does(name, candidates, tmp_path):
    """A batch of two sizes, the second padded; what the padding holds plays no part."""
    if candidates == "location" and "retinanet" in name:
        pytest.skip("RetinaNet has no such rule")
    rule = None if "retinanet" in name else candidates
    _, detector = tiny_detector(name, tmp_path, candidates=rule, TOPK_CANDIDATES_TEST=50)
    images = pixels(*SIZES)
    padded, sizes = map(torch.from_numpy, pad_together(images, 2, (96, 140)))
    padded[1, :, :, 70:] = 200
    with torch.no_grad():
        expected = detector([{"image": image} for image in images])
        found = DetectorGraph(detector, rgb=True)(padded[..., :128], sizes)
    for i in range(2):
        assert_close_detections(found, i, expected[i]["instances"])


def test_a_detector_of_bgr_is_given_bgr(tmp_path):
    _, detector = tiny_detector("atss", tmp_path)
    (image,) = pixels((64, 64))
    sizes = torch.tensor([[64, 64]])
    with torch.no_grad():
        expected = detector([{"image": image.flip(0)}])[0]["instances"]
        found = DetectorGraph(detector, rgb=False)(image[None], sizes)
    assert_close_detections(found, 0, expected)


def test_raw_gives_all_scores_and_boxes_within_their_image(tmp_path):
    keys = {"NMS_TYPE": "soft_nms_linear"}
    _, detector = tiny_detector("atss", tmp_path, **keys)
    graph = DetectorGraph(detector, rgb=True, raw=True)
    images, sizes = map(torch.from_numpy, pad_together(pixels((64, 96)), 1, None))
    with torch.no_grad():
        scores, boxes = graph(images, sizes)
        pair = detector.preprocess_image([{"image": images[0]}])
        features = detector.features(pair.tensor)
        decoded = detector.decode(features, detector.head(features))
    assert scores.shape == (1, 8 * 12 + 4 * 6 + 2 * 3 + 1 * 2 + 1, 3)
    assert torch.equal(scores[0], decoded.scores * decoded.factor[:, None])
    assert torch.equal(boxes[0], decoded.boxes.clamp(min=0).minimum(torch.tensor([96, 64] * 2)))


def test_soft_nms_has_no_graph(tmp_path):
    _, detector = tiny_detector("vfnet", tmp_path, NMS_TYPE="soft_nms_gaussian")
    with pytest.raises(UserError, match="soft_nms_gaussian.*--raw"):
        DetectorGraph(detector, rgb=True)


def test_any_number_of_detections_has_no_graph(tmp_path):
    _, detector = tiny_detector("atss", tmp_path)
    detector.suppression.keywords["max_detections"] = -1
    with pytest.raises(UserError, match="DETECTIONS_PER_IMAGE -1: set it"):
        DetectorGraph(detector, rgb=True)
    DetectorGraph(detector, rgb=True, raw=True)


def test_two_stages_have_no_graph(tmp_path):
    with pytest.raises(UserError, match="got GeneralizedRCNN.*two stages: choose a config"):
        DetectorGraph(build_model(libra_config(tmp_path)), rgb=True)
    DetectorGraph(build_model(tiny_config(tmp_path)), rgb=True)


def test_a_network_of_one_size_is_told_how(tmp_path, monkeypatch):
    """As torch says it of a Swin transformer, whose windows count the cells."""

    def specialized(*args, **options):
        kind = exc.UserErrorType.CONSTRAINT_VIOLATION
        raise exc.UserError(kind, "Specializations unexpectedly required (height)!\nSee above")

    monkeypatch.setattr(torch.export, "export", specialized)
    _, graph = tiny_graph("atss", tmp_path, two_levels=True)
    with pytest.raises(UserError, match=r"required \(height\)!\): name one, as in --size 800x1333"):
        export_program(graph)
