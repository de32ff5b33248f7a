"""demo/demo.py as a module, a small detector with three classes, and pictures for it."""

import importlib.util

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image

from vfnet.engine import load_config

from .commands import CONFIG, HEIGHT, ROOT, WIDTH


@pytest.fixture(scope="module")
def demo():
    spec = importlib.util.spec_from_file_location("vfnet_demo", ROOT / "demo" / "demo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A config with class names, whose data is not there, and weights with scores of all sizes."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "config.yaml").write_text(CONFIG)
    torch.manual_seed(0)
    network = build_model(load_config(str(folder / "config.yaml")))
    with torch.no_grad():
        network.head.cls_pred.weight *= 300
        network.head.cls_pred.bias.zero_()
    torch.save({"model": network.state_dict()}, folder / "model.pth")
    return folder


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (2, HEIGHT, WIDTH, 3), dtype=np.uint8)
    for name, values in zip(("a.png", "b.jpg"), pixels):
        Image.fromarray(values).save(folder / name)
    return folder
