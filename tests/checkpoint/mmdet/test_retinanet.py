"""RetinaNet's last layers: mmdet's anchors ratio by ratio, Detectron2's size by size."""

import pytest
import torch
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator

from vfnet.checkpoint import convert_state_dict, to_mmdet_state_dict
from vfnet.errors import UserError

CLASSES = 5
SIZES, RATIOS = (32.0, 40.0, 50.0), (0.5, 1.0, 2.0)


def test_an_output_stays_with_its_anchor():
    generator = DefaultAnchorGenerator(sizes=[SIZES], aspect_ratios=[RATIOS], strides=[8])
    (ours,) = generator.cell_anchors
    sides = ours[:, 2:] - ours[:, :2]
    anchors = list(zip(sides.prod(dim=1).sqrt().tolist(), (sides[:, 1] / sides[:, 0]).tolist()))
    # Each output bears the number of its anchor, in mmdet's order: ratios outside, sizes inside.
    numbers = torch.arange(9.0)
    theirs = {
        "bbox_head.retina_cls.bias": numbers.repeat_interleave(CLASSES),
        "bbox_head.retina_cls.weight": numbers.repeat_interleave(CLASSES)[:, None, None, None],
        "bbox_head.retina_reg.bias": numbers.repeat_interleave(4),
    }
    converted = convert_state_dict(theirs)
    names = ("cls_score.bias", "cls_score.weight", "bbox_pred.bias")
    assert list(converted) == [f"head.{name}" for name in names]
    in_order = [(size, ratio) for ratio in RATIOS for size in SIZES]
    for name, per_anchor in (("cls_score.bias", CLASSES), ("bbox_pred.bias", 4)):
        by_anchor = converted[f"head.{name}"].view(9, per_anchor)
        for place, (size, ratio) in enumerate(anchors):
            assert (by_anchor[place] == by_anchor[place, 0]).all()
            wanted = in_order[int(by_anchor[place, 0])]
            assert (size, ratio) == pytest.approx(wanted, rel=1e-4)
    weight, bias = converted["head.cls_score.weight"], converted["head.cls_score.bias"]
    assert torch.equal(weight[:, 0, 0, 0], bias)
    back = to_mmdet_state_dict(converted)
    assert all(torch.equal(back[name], value) for name, value in theirs.items())


def test_the_classes_of_an_anchor_keep_their_order():
    bias = torch.arange(9.0 * CLASSES)
    converted = convert_state_dict({"bbox_head.retina_cls.bias": bias})["head.cls_score.bias"]
    # Ours: the first size with all ratios, whose first anchors theirs has at 0, 3 and 6.
    assert converted[: 3 * CLASSES].tolist() == [*range(0, 5), *range(15, 20), *range(30, 35)]


def test_towers_skip_the_activations():
    convs = [f"bbox_head.{tower}_convs.{i}.conv.bias" for tower in ("cls", "reg") for i in (0, 3)]
    own = "bbox_head.retina_reg.bias"  # by which a RetinaNet is known
    converted = convert_state_dict({name: torch.zeros(36) for name in (*convs, own)})
    assert list(converted) == [
        *("head.cls_subnet.0.bias", "head.cls_subnet.6.bias"),
        *("head.bbox_subnet.0.bias", "head.bbox_subnet.6.bias", "head.bbox_pred.bias"),
    ]


def test_other_anchors_are_named():
    with pytest.raises(UserError, match="3 sizes and 3 ratios .* got 20 outputs"):
        convert_state_dict({"bbox_head.retina_cls.bias": torch.zeros(20)})
