"""A tiny VFNet with weights of its own, in a folder as a training run leaves it."""

import torch
from detectron2.modeling import build_model

from tests.engine.tiny import CONFIG
from vfnet.engine import load_config

NAMES = ["nut", "<b>bolt</b>", "washer"]


def write_tiny_detector(path):
    """Write weights with scores of all sizes, and config.yaml beside them."""
    config = path.with_name("config.yaml")
    config.write_text(
        f"_BASE_: {CONFIG}\nMODEL: {{VFNET: {{CLASS_NAMES: {NAMES}}}}}\nDATASETS: {{TRAIN: []}}\n"
    )
    torch.manual_seed(0)
    network = build_model(load_config(str(config)))
    with torch.no_grad():
        network.head.cls_pred.weight *= 300
        network.head.cls_pred.bias.zero_()
    torch.save({"model": network.state_dict()}, path)
