"""vfnet.predictor: its pixels, its names. The pictures that it draws: tests/test_demo.py."""

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import get_cfg as get_detectron2_cfg
from detectron2.data import MetadataCatalog
from detectron2.engine import DefaultPredictor
from PIL import Image

from vfnet import get_cfg
from vfnet.predictor import build_predictor, load_prediction_config


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


def dumped_config(repository, folder):
    """Write what a training run far away left: no weights and no data here."""
    cfg = get_cfg()
    cfg.merge_from_file(str(repository / "tests" / "reference" / "mini_r50.yaml"))
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("far_train",), ("far_val",)
    cfg.MODEL.VFNET.CLASS_NAMES = [f"thing {i}" for i in range(cfg.MODEL.VFNET.NUM_CLASSES)]
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = "cpu", ""
    (folder / "config.yaml").write_text(cfg.dump())
    return str(folder / "config.yaml"), cfg.MODEL.VFNET.CLASS_NAMES


def test_after_a_config_is_loaded_sahi_finds_the_class_names(repository, tmp_path):
    """As SAHI does: Detectron2's own config and predictor, and names of DATASETS.TRAIN[0]."""
    config, names = dumped_config(repository, tmp_path)
    load_prediction_config(config)
    cfg = get_detectron2_cfg()
    cfg.set_new_allowed(True)
    cfg.merge_from_file(config)
    predictor = DefaultPredictor(cfg)
    assert MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).thing_classes == names
    assert predictor.metadata.thing_classes == names


def test_a_predictor_of_a_config_made_by_hand_has_the_class_names(repository, tmp_path):
    config, names = dumped_config(repository, tmp_path)
    cfg = get_cfg()
    cfg.merge_from_file(config)
    cfg.MODEL.WEIGHTS = f"mmdet://{repository / 'tests' / 'reference' / 'mini_r50.pth'}"
    assert build_predictor(cfg).metadata.thing_classes == names
