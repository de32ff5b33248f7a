"""mmdet's names of published models -> ours, one to one."""

import json

import pytest
import torch
import torchvision
from detectron2.modeling import build_backbone, build_model

from vfnet import model_zoo
from vfnet.checkpoint import convert_state_dict
from vfnet.errors import UserError

PUBLISHED = {
    "vfnet_r50_fpn_1x_coco": "vfnet_R50_1x",
    "vfnet_r50-mdconv-c3-c5_fpn_ms-2x_coco": "vfnet_R50_dcn_ms_2x",
    "vfnet_x101-32x4d-mdconv-c3-c5_fpn_ms-2x_coco": "vfnet_X101_32x4d_dcn_ms_2x",
    "vfnet_x101-64x4d_fpn_ms-2x_coco": "vfnet_X101_64x4d_ms_2x",
    "vfnet_res2net101-mdconv-c3-c5_fpn_ms-2x_coco": "vfnet_R2_101_dcn_ms_2x",
    "vfnet_res2net-101_fpn_ms-2x_coco": "vfnet_R2_101_ms_2x",
}


def published_state_dict(shared, model):
    shapes = json.loads((shared / "reference" / "mmdet_keys.json").read_text())[model]
    # One number shown at full size: shapes without the memory.
    return {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("model", PUBLISHED)
def test_every_weight_of_a_published_model_keeps_its_tensor_under_a_name_of_its_own(shared, model):
    source = published_state_dict(shared, model)
    converted = convert_state_dict(source)

    kept = [value for name, value in source.items() if not name.endswith("num_batches_tracked")]
    assert len(kept) < len(source)
    assert [id(value) for value in converted.values()] == [id(value) for value in kept]


@pytest.mark.parametrize("model, config", PUBLISHED.items())
def test_a_published_model_is_its_configs_in_every_name_and_shape(shared, model, config):
    cfg = model_zoo.get_config(config)
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        ours = build_model(cfg).state_dict()
    converted = convert_state_dict(published_state_dict(shared, model))
    assert {name: value.shape for name, value in converted.items()} == {
        name: value.shape for name, value in ours.items() if "num_batches_tracked" not in name
    }


@pytest.mark.parametrize(
    "mmdet, ours",
    [
        ("backbone.conv1.weight", "backbone.bottom_up.stem.conv1.weight"),
        ("backbone.bn1.running_var", "backbone.bottom_up.stem.conv1.norm.running_var"),
        ("backbone.layer1.0.conv2.weight", "backbone.bottom_up.res2.0.conv2.weight"),
        ("backbone.layer3.22.bn3.bias", "backbone.bottom_up.res4.22.conv3.norm.bias"),
        ("backbone.layer4.0.downsample.0.weight", "backbone.bottom_up.res5.0.shortcut.weight"),
        (
            "backbone.layer2.0.downsample.1.running_mean",
            "backbone.bottom_up.res3.0.shortcut.norm.running_mean",
        ),
        (
            "backbone.layer2.1.conv2.conv_offset.bias",
            "backbone.bottom_up.res3.1.conv2_offset.bias",
        ),
        ("backbone.layer2.1.conv2_offset.bias", "backbone.bottom_up.res3.1.conv2_offset.bias"),
        ("neck.lateral_convs.0.conv.bias", "backbone.fpn_lateral3.bias"),
        ("neck.lateral_convs.1.gn.weight", "backbone.fpn_lateral4.norm.weight"),
        ("neck.fpn_convs.2.conv.weight", "backbone.fpn_output5.weight"),
        ("neck.fpn_convs.3.gn.bias", "backbone.top_block.p6.norm.bias"),
        ("neck.fpn_convs.3.conv.weight", "backbone.top_block.p6.weight"),
        ("neck.fpn_convs.4.conv.bias", "backbone.top_block.p7.bias"),
        ("bbox_head.cls_convs.1.conv.weight", "head.cls_tower.1.weight"),
        ("bbox_head.cls_convs.2.conv.conv_offset.weight", "head.cls_tower.2.offset.weight"),
        ("bbox_head.reg_convs.0.gn.bias", "head.box_tower.0.norm.bias"),
        ("bbox_head.vfnet_reg_conv.conv.weight", "head.box_conv.weight"),
        ("bbox_head.vfnet_reg_conv.gn.weight", "head.box_conv.norm.weight"),
        ("bbox_head.vfnet_reg.bias", "head.box_pred.bias"),
        ("bbox_head.scales.4.scale", "head.box_scales.4"),
        ("bbox_head.vfnet_reg_refine_dconv.weight", "head.box_star.weight"),
        ("bbox_head.vfnet_reg_refine.weight", "head.refine_pred.weight"),
        ("bbox_head.scales_refine.0.scale", "head.refine_scales.0"),
        ("bbox_head.vfnet_cls_dconv.weight", "head.cls_star.weight"),
        ("bbox_head.vfnet_cls.weight", "head.cls_pred.weight"),
        ("bbox_head.vfnet_cls_conv.conv.weight", "head.cls_conv.weight"),
        ("bbox_head.vfnet_cls_conv.gn.bias", "head.cls_conv.norm.bias"),
        ("module.bbox_head.vfnet_cls.bias", "head.cls_pred.bias"),
    ],
)
def test_a_name_has_its_counterpart(mmdet, ours):
    assert list(convert_state_dict({mmdet: torch.zeros(1)})) == [ours]


def test_counters_moving_averages_and_pixel_statistics_are_left_out():
    extra = [
        "backbone.bn1.num_batches_tracked",
        "ema_backbone_conv1_weight",
        "data_preprocessor.mean",
        "data_preprocessor.std",
    ]
    assert convert_state_dict({name: torch.zeros(1) for name in extra}) == {}


def test_all_names_without_a_rule_are_listed():
    names = ["bbox_head.fsaf_reg.weight", "xbackbone.conv1.weight", "backbone.conv1.weight.x"]
    source = {name: torch.zeros(1) for name in ["backbone.conv1.weight", *names]}
    with pytest.raises(UserError) as caught:
        convert_state_dict(source)
    assert all(name in str(caught.value) for name in names)


def test_two_names_of_one_parameter_are_an_error():
    names = ["backbone.conv1.weight", "module.backbone.conv1.weight"]
    with pytest.raises(UserError, match="second value.*module.backbone"):
        convert_state_dict({name: torch.zeros(1) for name in names})


def test_a_value_that_is_no_tensor_is_an_error():
    with pytest.raises(UserError, match="no tensor.*backbone.conv1.weight"):
        convert_state_dict({"backbone.conv1.weight": "weights"})


@pytest.mark.parametrize(
    "config, model",
    [
        ("vfnet_R50_1x", "resnet50"),
        ("vfnet_R101_1x", "resnet101"),
        ("vfnet_X101_64x4d_ms_2x", "resnext101_64x4d"),
    ],
)
def test_torchvisions_resnet_fills_the_whole_backbone_and_brings_no_more(config, model):
    cfg = model_zoo.get_config(config)
    with torch.device("meta"):
        source = getattr(torchvision.models, model)().state_dict()
        backbone = build_backbone(cfg)
    shapes = {name: tuple(value.shape) for name, value in convert_state_dict(source).items()}
    expected = {
        f"backbone.{name}": tuple(value.shape)
        for name, value in backbone.state_dict().items()
        if name.startswith("bottom_up.") and not name.endswith("num_batches_tracked")
    }
    assert shapes == expected


def test_a_backbone_with_an_unknown_name_is_refused():
    with pytest.raises(UserError, match="transformer.weight"):
        convert_state_dict({"conv1.weight": torch.zeros(1), "transformer.weight": torch.zeros(1)})
