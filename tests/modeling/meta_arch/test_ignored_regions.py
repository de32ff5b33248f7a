"""INPUT.KEEP_CROWD and IGNORE_IOF_THRESH: what lies in a region takes part in no loss."""

from functools import partial

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes
from detectron2.utils.events import EventStorage

from tests.engine.tiny import picture, tiny_config
from tests.engine.tiny_family import CONFIGS
from vfnet.modeling.locations import flatten_levels
from vfnet.modeling.losses.classification import varifocal_loss

STRIDES = (8, 16, 32, 64, 128)
# The side of what a location stands for, in strides, and where in its cell it stands.
PRIORS = {
    "vfnet": (8, 0.0),
    "atss": (8, 0.0),
    "gfl": (8, 0.0),
    "gflv2": (8, 0.0),
    "foveabox": (4, 0.5),
    "reppoints": (4, 0.0),
}
NODES = {"gflv2": "GFL"}
FAMILY = {**CONFIGS, "vfnet": tiny_config}
LOSSES = [(name, loss) for name in PRIORS for loss in ("varifocal", "quality_focal", "focal")]
LOSSES = [(name, loss) for name, loss in LOSSES if name != "gflv2" or loss == "quality_focal"]
REGION = torch.tensor([[70.0, 0.0, 128.0, 96.0]])


def build(tmp_path, name, *overrides, threshold="0.5"):
    node = f"MODEL.{NODES.get(name, name.upper())}"
    torch.manual_seed(0)
    keys = (f"{node}.IGNORE_IOF_THRESH", threshold, "INPUT.KEEP_CROWD", "True")
    overrides = [word.replace("NODE", node) for word in overrides]
    return build_model(FAMILY[name](tmp_path, *keys, *overrides)).train()


def small_picture(seed=1, num_boxes=4):
    """The objects of a 128x96 picture lie left of the region."""
    item = picture(seed, num_boxes)
    item["instances"].gt_boxes = Boxes(item["instances"].gt_boxes.tensor.clamp(max=66))
    return item


def squares_in(region, name, sizes):
    """By hand: whether each location's square lies in the region, of each level's H x W."""
    scale, place = PRIORS[name]
    x1, y1, x2, y2 = region.tolist()
    found = []
    for stride, (height, width) in zip(STRIDES, sizes):
        side = scale * stride
        for row in range(height):
            for column in range(width):
                left, top = (place + column) * stride - side / 2, (place + row) * stride - side / 2
                overlap = max(min(left + side, x2) - max(left, x1), 0)
                overlap *= max(min(top + side, y2) - max(top, y1), 0)
                found.append(overlap / side**2 > 0.5)
    return torch.tensor(found)


def run(model, item, regions):
    """Losses, the leaves that the logits are, and targets."""
    images, features, predictions = model.predict([item])
    leaves = [level.detach().requires_grad_() for level in predictions.logits]
    predictions = predictions._replace(logits=leaves)
    targets = model.assign(images, features, predictions, [item["instances"]], regions)
    return model.losses(predictions, model.priors(features), targets), leaves, targets


@pytest.mark.parametrize(("name", "loss"), LOSSES)
def test_ignored_logits_have_no_gradient_and_all_others_have(tmp_path, name, loss):
    model = build(tmp_path, name, "NODE.CLS_LOSS", loss)
    losses, leaves, targets = run(model, small_picture(), [REGION])
    losses["loss_cls"].backward()
    gradient = flatten_levels([leaf.grad for leaf in leaves])
    ignored = squares_in(REGION[0], name, [leaf.shape[-2:] for leaf in leaves])
    assert 10 < ignored.sum() < len(ignored) / 2
    assert (gradient[ignored] == 0).all()
    assert (gradient[~ignored & targets.valid] != 0).all()
    assert not ignored[targets.index].any() and len(targets.index) > 0


@pytest.mark.parametrize("name", PRIORS)
def test_the_loss_is_that_of_the_other_locations(tmp_path, name):
    """What the ignored ones would add as background, by hand, is what is missing."""
    loss = "quality_focal" if name == "gflv2" else "varifocal"
    model, item = build(tmp_path, name, "NODE.CLS_LOSS", loss), small_picture()
    torch.nn.init.zeros_(model.head.cls_pred.bias)  # else a background's loss is next to nothing
    whole, _, _ = run(model, item, [])
    less, leaves, targets = run(model, item, [REGION])
    ignored = squares_in(REGION[0], name, [leaf.shape[-2:] for leaf in leaves])
    logits = flatten_levels(leaves)[ignored]
    if name == "gflv2":
        p = model.scores(model.predict([item])[2])[ignored]
        added = -(p.square() * (1 - p).log()).sum()
    elif name == "gfl":
        added = varifocal_loss(logits, torch.zeros_like(logits), reduction="sum")
    else:
        p = logits.sigmoid()
        added = -(0.75 * p.square() * (1 - p).log()).sum()
    counted = {"foveabox": len(targets.index) + 1}.get(name, max(len(targets.index), 1))
    difference = whole["loss_cls"] - less["loss_cls"]
    assert difference.item() == pytest.approx(added.item() / counted, rel=1e-3)
    for other in set(whole) - {"loss_cls"}:  # boxes are learnt as before
        assert whole[other] == less[other]


@pytest.mark.parametrize("name", [*FAMILY])
def test_without_a_region_or_a_threshold_nothing_changes(tmp_path, name):
    def losses(threshold, *regions):
        if name == "libra":
            torch.manual_seed(0)
            model = build_model(FAMILY[name](tmp_path, "INPUT.KEEP_CROWD", "True")).train()
        else:
            model = build(tmp_path, name, threshold=threshold)
        torch.manual_seed(3)
        items = [{**small_picture(), "ignored_boxes": own} for own in regions]
        with EventStorage():
            return model(items or [small_picture()])

    plain, nothing = losses("-1.0"), torch.zeros(0, 4)
    assert losses("0.5", nothing) == plain
    assert losses("-1.0", REGION) == plain
    if name != "libra":
        with_region = losses("0.5", REGION)
        assert with_region.keys() == plain.keys() and with_region != plain


def test_retinanets_anchors_in_a_region_are_neither_positive_nor_negative(tmp_path):
    model, item = build(tmp_path, "retinanet"), small_picture()
    images, features, predictions = model.predict([item])
    logits = [level.detach().requires_grad_() for level in predictions[0]]
    targets = model.assign(images, features, predictions, [item["instances"]], [REGION])
    anchors = model.priors(features)
    model.losses([logits, predictions[1]], anchors, targets)["loss_cls"].backward()
    low = torch.maximum(anchors[:, :2], REGION[:, :2])
    high = torch.minimum(anchors[:, 2:], REGION[:, 2:])
    area = (anchors[:, 2:] - anchors[:, :2]).prod(dim=1)
    ignored = (high - low).clamp(min=0).prod(dim=1) / area > 0.5
    gradient = flatten_levels([level.grad for level in logits]).view(len(anchors), -1)
    assert ignored.sum() > 100 and (gradient[ignored] == 0).all()
    assert (gradient[targets.valid] != 0).all() and not targets.valid[ignored].any()


def test_each_picture_has_its_own_regions_and_may_be_full_of_them(tmp_path):
    model = build(tmp_path, "vfnet")
    items = [small_picture(1), small_picture(2), small_picture(3, num_boxes=0)]
    everything = torch.tensor([[-999.0, -999.0, 999.0, 999.0]])
    images, features, predictions = model.predict(items)
    gt, nothing = [item["instances"] for item in items], torch.zeros(0, 4)
    assign = partial(model.assign, images, features, predictions, gt)
    plain, targets = assign(), assign([nothing, everything, everything])
    locations = len(plain.valid) // 3
    assert targets.ignored.view(3, -1).all(dim=1).tolist() == [False, True, True]
    assert not targets.ignored[:locations].any()
    first = plain.index < locations
    assert torch.equal(targets.index, plain.index[first])
    assert targets.gts_without_positive == plain.gts_without_positive + len(
        {tuple(box.tolist()) for box in plain.boxes[~first]}
    )
    losses = model([{**item, "ignored_boxes": everything} for item in items])
    assert losses["loss_cls"] == 0 and all(value == 0 for value in losses.values())
    sum(losses.values()).backward()
