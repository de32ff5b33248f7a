"""Our names -> mmdet's: the way back of the same table."""

import json

import pytest
import torch

from vfnet.checkpoint import convert_state_dict, to_mmdet_state_dict
from vfnet.errors import UserError

MINIATURES = ["r50", "r50_dcn", "x50", "r2_50", "r2_50_dcn", "vfnetx"]


def without_counters(state_dict):
    return {k: v for k, v in state_dict.items() if not k.endswith("num_batches_tracked")}


def test_published_models_come_back_with_every_name_and_tensor(shared):
    models = json.loads((shared / "reference" / "mmdet_keys.json").read_text())
    assert len(models) == 6
    for shapes in models.values():
        source = {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}
        back = to_mmdet_state_dict(convert_state_dict(source))
        expected = without_counters(source)
        assert list(back) == list(expected)
        assert all(back[name] is expected[name] for name in expected)


@pytest.mark.parametrize("name", MINIATURES)
def test_miniatures_come_back_bit_for_bit(shared, name):
    path = shared / "reference" / f"mini_{name}.pth"
    source = torch.load(path, weights_only=True)["state_dict"]
    back = to_mmdet_state_dict(convert_state_dict(source))
    expected = without_counters(source)
    assert list(back) == list(expected)
    assert all(torch.equal(back[name], expected[name]) for name in expected)
    assert back["bbox_head.scales.0.scale"].shape == ()


@pytest.mark.parametrize(
    "ours, mmdet",
    [
        ("backbone.bottom_up.stem.conv1.norm.bias", "backbone.bn1.bias"),
        ("backbone.bottom_up.res4.22.conv3.norm.weight", "backbone.layer3.22.bn3.weight"),
        ("backbone.bottom_up.res5.0.shortcut.weight", "backbone.layer4.0.downsample.0.weight"),
        ("backbone.fpn.bottom_up.res3.0.conv1.weight", "backbone.layer2.0.conv1.weight"),
        ("backbone.fpn.fpn_output4.norm.bias", "neck.fpn_convs.1.gn.bias"),
        ("backbone.top_block.p7.weight", "neck.fpn_convs.4.conv.weight"),
        ("head.cls_tower.2.offset.bias", "bbox_head.cls_convs.2.conv.conv_offset.bias"),
        ("head.refine_scales.3", "bbox_head.scales_refine.3.scale"),
        ("module.head.cls_pred.weight", "bbox_head.vfnet_cls.weight"),
    ],
)
def test_a_name_has_its_counterpart(ours, mmdet):
    assert list(to_mmdet_state_dict({ours: torch.zeros(1)})) == [mmdet]


def test_the_blocks_say_which_number_a_shortcut_has():
    shortcut = "backbone.bottom_up.res2.0.shortcut.weight"
    res2net = {shortcut: torch.zeros(1), "backbone.bottom_up.res2.0.convs.1.weight": torch.ones(1)}
    assert list(to_mmdet_state_dict(res2net)) == [
        "backbone.layer1.0.downsample.1.weight",
        "backbone.layer1.0.convs.1.weight",
    ]


def test_counters_and_pixel_statistics_are_left_out():
    names = ["backbone.bottom_up.stem.conv1.norm.num_batches_tracked", "pixel_mean", "pixel_std"]
    assert to_mmdet_state_dict({name: torch.zeros(1) for name in names}) == {}


def test_a_backbone_without_prefix_gets_none():
    names = ["stem.conv1.weight", "res2.0.conv1.norm.weight", "res2.0.conv1.norm.running_var"]
    assert list(to_mmdet_state_dict({name: torch.zeros(1) for name in names})) == [
        "conv1.weight",
        "layer1.0.bn1.weight",
        "layer1.0.bn1.running_var",
    ]


def test_names_of_another_model_are_listed():
    names = ["backbone.bottom_up.res2.0.conv1.weight", "head.mask_subnet.0.weight", "roi.x"]
    with pytest.raises(UserError, match="2 of 3.*head.mask_subnet.0.weight, roi.x"):
        to_mmdet_state_dict({name: torch.zeros(1) for name in names})


def test_mmdets_own_names_are_no_names_of_ours():
    with pytest.raises(UserError, match="backbone.conv1.weight"):
        to_mmdet_state_dict({"backbone.conv1.weight": torch.zeros(1)})
