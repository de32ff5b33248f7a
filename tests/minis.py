"""The reference implementation's small networks, which several tests load."""

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances

from tests.compare import relative_difference
from vfnet import get_cfg
from vfnet.checkpoint import convert_state_dict

# The others are read from ../shared.
IN_THIS_REPOSITORY = ("mini_r50", "mini_atss", "mini_gfl")
# Gradients of the reference are met to 5e-6 where no ReLU's input is beside 0 (pytest -m parity).
GRADIENT_TOLERANCE = 1e-3
# One and two of float32's spacings between 64 and 128, where the numbers of PIXEL_MEAN lie.
MOVES_OF_PIXEL_MEAN = (0, 2**-17, -(2**-17), 2**-16, -(2**-16))


def folder_of(name, request):
    """Where a small detector's files lie; skips the test where that is ../shared and absent."""
    if name in IN_THIS_REPOSITORY:
        return request.config.rootpath / "tests" / "reference"
    folder = request.getfixturevalue("shared") / "reference"
    return folder if (folder / f"{name}.pth").is_file() else folder / "family"


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
    """Compare gradients of the sum of all losses with the reference's, by mmdet's names.

    An input of a ReLU that is 0 but for rounding passes its gradient on one machine and not on
    another, which moves a parameter's by some 4e-3. So the reference's may be those at a PIXEL_MEAN
    that is moved by float32's spacing: that changes such an input's side, and nothing else by much.
    """
    mean, found = model.pixel_mean.clone(), []
    try:
        for move in MOVES_OF_PIXEL_MEAN:
            model.pixel_mean.copy_(mean + move)
            found.append(largest_difference(gradients_of_losses(model, batch), expected))
            if found[-1][0] < GRADIENT_TOLERANCE:
                return
    finally:
        model.pixel_mean.copy_(mean)
    raise AssertionError(f"the largest differences from the reference's gradients: {found}")


def gradients_of_losses(model, batch):
    model.zero_grad()
    sum(model(batch).values()).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def largest_difference(gradients, expected):
    """The largest relative difference of any parameter's gradient, and mmdet's name of it."""
    differences = []
    for name, gradient in expected.items():
        ((ours, gradient),) = convert_state_dict({name: gradient}).items()
        assert gradients[ours].isfinite().all(), name
        differences.append((relative_difference(gradients[ours], gradient), name))
    return max(differences)
