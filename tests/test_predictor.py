"""vfnet.predictor: its pixels. The pictures that it draws: tests/test_demo.py."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from vfnet import get_cfg
from vfnet.predictor import build_predictor


@pytest.mark.parametrize("resize", ["pil", "cv2"])
def test_the_predictor_resizes_as_the_config_says(repository, resize):
    reference = repository / "tests" / "reference"
    cfg = get_cfg()
    cfg.merge_from_file(str(reference / "mini_r50.yaml"))
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = f"mmdet://{reference / 'mini_r50.pth'}"
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST, cfg.INPUT.RESIZE = 72, 200, resize
    predictor = build_predictor(cfg)
    bgr = np.random.RandomState(0).randint(0, 256, (90, 120, 3), dtype=np.uint8)
    # 90 x 120 becomes 72 x 96.
    rgb = np.ascontiguousarray(bgr[:, :, ::-1])
    if resize == "pil":
        resized = np.asarray(Image.fromarray(rgb).resize((96, 72), Image.BILINEAR))
    else:
        resized = cv2.resize(rgb, (96, 72), interpolation=cv2.INTER_LINEAR)
    pixels = torch.from_numpy(resized.transpose(2, 0, 1).astype(np.float32))
    with torch.no_grad():
        (expected,) = predictor.model([{"image": pixels, "height": 90, "width": 120}])
    found = predictor(bgr)["instances"]
    assert len(found) > 0
    assert torch.equal(found.scores, expected["instances"].scores)
    assert torch.equal(found.pred_boxes.tensor, expected["instances"].pred_boxes.tensor)
