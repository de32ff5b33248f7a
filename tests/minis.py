"""The reference implementation's small networks, which several tests load."""

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances

from vfnet import get_cfg


def mini_config(folder, name):
    cfg = get_cfg()
    cfg.merge_from_file(str(folder / f"{name}.yaml"))
    cfg.MODEL.WEIGHTS = f"mmdet://{folder / name}.pth"
    return cfg


def load_mini(folder, name):
    """A small detector with the reference's weights, the numbers it must give, and its config."""
    cfg = mini_config(folder, name)
    model = build_model(cfg)
    DetectionCheckpointer(model).load(cfg.MODEL.WEIGHTS)
    return model, torch.load(folder / f"{name}.expected.pt", weights_only=True), cfg


def model_input(image, boxes=None, classes=None):
    """What the mapper gives: an RGB image and its instances."""
    size = tuple(image.shape[1:])
    item = {"image": image.flip(0), "height": size[0], "width": size[1]}
    if boxes is not None:
        item["instances"] = Instances(size, gt_boxes=Boxes(boxes), gt_classes=classes)
    return item
