"""vfnet.predictor.Predictor gives of an exported file what it gives of the weights."""

import numpy as np
import pytest
import torch

from tests.export.detectors import pixels, saved_detector
from tests.extras import needs
from vfnet.export.write import ExportOptions, export_detector
from vfnet.predictor import Predictor

pytestmark = needs("export")


@pytest.mark.parametrize("file_format", ["onnx", "openvino"])
def test_an_exported_file_predicts_as_its_weights_do(file_format, tmp_path, capsys):
    cfg, _ = saved_detector("vfnet", tmp_path, two_levels=True, TOPK_CANDIDATES_TEST=50)
    file = export_detector(cfg, "vfnet", tmp_path / "out", ExportOptions(file_format, batch=2)).path
    images = pixels((96, 128), (70, 50), (96, 128))
    pictures = [np.ascontiguousarray(image.permute(1, 2, 0).numpy()) for image in images]
    settings = {"confidence_threshold": 0.06, "classes": ["a", "c"], "batch_size": 2}
    exported = Predictor(file, **settings, max_detections=5)
    weights = Predictor(None, cfg, **settings, max_detections=5)
    assert exported.class_names == weights.class_names == ["a", "b", "c"]
    for found, expected in zip(exported(pictures), weights(pictures)):
        found, expected = found["instances"], expected["instances"]
        assert found.image_size == expected.image_size
        assert len(found) == len(expected) > 0
        assert torch.equal(found.pred_classes, expected.pred_classes)
        torch.testing.assert_close(found.scores, expected.scores, rtol=0, atol=1e-3)
        boxes, other = found.pred_boxes.tensor, expected.pred_boxes.tensor
        torch.testing.assert_close(boxes, other, rtol=0, atol=0.1)
    capsys.readouterr()
    Predictor(file, confidence_threshold=0.0, max_detections=1000)
    said = capsys.readouterr().out
    assert "it gives no lower ones" in said and "it gives no more" in said
