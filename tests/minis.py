"""The reference implementation's small networks, which several tests load."""

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances

from tests.compare import relative_difference
from vfnet import get_cfg
from vfnet.checkpoint import convert_state_dict

# As far as float32 rounds a grey level of 255.
ROUNDINGS_OF_PIXELS = (0, 2**-16, -(2**-16), 2**-17, -(2**-17))


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


def assert_same_gradients(model, batch, expected):
    """Compare the gradients of the sum of all losses with the reference's, by mmdet's names.

    An input of a ReLU that is 0 but for rounding passes its gradient on one machine and not on
    another: the reference's gradients are those of the pictures, or of the pictures rounded anew.
    """
    found = []
    for move in ROUNDINGS_OF_PIXELS:
        model.pixel_mean.add_(move)
        gradients = gradients_of_losses(model, batch)
        model.pixel_mean.sub_(move)
        found.append(largest_difference(gradients, expected))
        if found[-1][0] < 1e-3:
            return
    raise AssertionError(f"gradients differ from the reference's, of each rounding by {found}")


def gradients_of_losses(model, batch):
    model.zero_grad()
    sum(model(batch).values()).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def largest_difference(gradients, expected):
    """The largest relative difference of any parameter's gradient, and mmdet's name of it."""
    differences = []
    for name, gradient in expected.items():
        ((ours, gradient),) = convert_state_dict({name: gradient}).items()
        differences.append((relative_difference(gradients[ours], gradient), name))
    return max(differences)
