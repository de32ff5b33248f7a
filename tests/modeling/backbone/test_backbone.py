import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling import build_backbone, build_model
from detectron2.modeling.backbone.resnet import DeformBottleneckBlock
from torch import nn
from torchvision.ops import deform_conv2d

from vfnet import get_cfg
from vfnet.checkpoint import to_mmdet_state_dict
from vfnet.errors import UserError


def config(depth=50, **resnets):
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = "build_vfnet_resnet_fpn_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = 2
    cfg.MODEL.FPN.IN_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 32
    settings = {
        "DEPTH": depth,
        "OUT_FEATURES": ["res3", "res4", "res5"],
        "NORM": "BN",
        "STRIDE_IN_1X1": False,
        "STEM_OUT_CHANNELS": 8,
        "RES2_OUT_CHANNELS": 32 if depth >= 50 else 8,
        "WIDTH_PER_GROUP": 8,
        **resnets,
    }
    for key, value in settings.items():
        setattr(cfg.MODEL.RESNETS, key, value)
    return cfg


def count(module):
    """Parameters, the scale and shift of frozen batch norms (buffers in Detectron2) included."""
    buffers = sum(
        m.weight.numel() + m.bias.numel()
        for m in module.modules()
        if isinstance(m, FrozenBatchNorm2d)
    )
    return sum(p.numel() for p in module.parameters()) + buffers


@pytest.mark.parametrize("depth", [18, 34, 50, 101])
def test_the_pyramid_has_five_levels_from_p3_to_p7(depth):
    backbone = build_backbone(config(depth))
    assert backbone.output_shape() == {
        f"p{i}": ShapeSpec(channels=32, stride=2**i) for i in range(3, 8)
    }
    features = backbone(torch.zeros(1, 3, 96, 160))
    sizes = [tuple(features[f"p{i}"].shape[-2:]) for i in range(3, 8)]
    assert sizes == [(12, 20), (6, 10), (3, 5), (2, 3), (1, 2)]


def test_p6_and_p7_are_made_from_p5_with_a_relu_between():
    backbone = build_backbone(config()).eval()
    features = backbone(torch.randn(1, 3, 64, 64))
    p6 = backbone.top_block.p6(features["p5"])
    torch.testing.assert_close(features["p6"], p6)
    torch.testing.assert_close(features["p7"], backbone.top_block.p7(p6.relu()))


R101 = {"DEPTH": 101, "STEM_OUT_CHANNELS": 64, "RES2_OUT_CHANNELS": 256}
DCN = {"DEFORM_ON_PER_STAGE": [False, True, True, True], "DEFORM_MODULATED": True}


@pytest.mark.parametrize(
    ("name", "resnets", "parameters"),
    [
        ("resnet", {**R101, "DEPTH": 50, "WIDTH_PER_GROUP": 64}, 32_891_554),
        ("resnet", {**R101, "DEPTH": 50, "WIDTH_PER_GROUP": 64, **DCN}, 33_887_287),
        ("resnet", {**R101, "NUM_GROUPS": 32, "WIDTH_PER_GROUP": 4, **DCN}, 55_494_402),
        ("resnet", {**R101, "NUM_GROUPS": 64, "WIDTH_PER_GROUP": 4}, 90_789_794),
        ("res2net", R101, 52_560_442),
        ("res2net", {**R101, **DCN}, 55_037_638),
    ],
)
def test_published_detectors_have_their_number_of_parameters(name, resnets, parameters):
    cfg = config(**resnets)
    cfg.MODEL.META_ARCHITECTURE = "VFNet"
    cfg.MODEL.DEVICE = "meta"
    cfg.MODEL.BACKBONE.NAME = f"build_vfnet_{name}_fpn_backbone"
    cfg.MODEL.FPN.OUT_CHANNELS = 256
    cfg.MODEL.VFNET.DEFORM_LAST_CONV = "DEFORM_MODULATED" in resnets
    with torch.device("meta"):
        assert count(build_model(cfg)) == parameters


# By mmdet's sources: a 3x3 convolution to 18 channels, with bias, for each deformable one, of
# which a Res2Net's block has three. Blocks and width of each deformable stage.
@pytest.mark.parametrize(
    ("name", "resnets", "stages"),
    [
        ("resnet", {}, {"res3": (4, 128), "res4": (23, 256), "res5": (3, 512)}),
        (
            "resnet",
            {"NUM_GROUPS": 32, "WIDTH_PER_GROUP": 4},
            {"res4": (23, 512), "res5": (3, 1024)},
        ),
        ("res2net", {}, {"res4": (23, 104), "res5": (3, 208)}),
    ],
)
def test_backbones_of_version_1_have_the_names_and_shapes_of_mmdets(name, resnets, stages):
    sizes = {**R101, "WIDTH_PER_GROUP": 64, **resnets}
    chosen = [stage in stages for stage in ("res2", "res3", "res4", "res5")]
    shapes = []
    for flags in ([False] * 4, chosen):
        cfg = config(**sizes, DEFORM_ON_PER_STAGE=flags)
        cfg.MODEL.BACKBONE.NAME = f"build_vfnet_{name}_fpn_backbone"
        with torch.device("meta"):
            state_dict = build_backbone(cfg).bottom_up.state_dict()
        mmdet = to_mmdet_state_dict({f"backbone.bottom_up.{n}": v for n, v in state_dict.items()})
        shapes.append({key: tuple(value.shape) for key, value in mmdet.items()})
    plain, deformed = shapes
    layers = ["conv2"] if name == "resnet" else ["convs.0", "convs.1", "convs.2"]
    expected = {}
    for stage, (blocks, width) in stages.items():
        for block in range(blocks):
            for layer in layers:
                branch = f"backbone.layer{int(stage[3]) - 1}.{block}.{layer}.conv_offset"
                expected[f"{branch}.weight"] = (18, width, 3, 3)
                expected[f"{branch}.bias"] = (18,)
    assert deformed == {**plain, **expected}


def test_the_neck_and_head_of_vfnet_x_have_their_number_of_parameters():
    cfg = config(**R101, **DCN)
    cfg.MODEL.META_ARCHITECTURE = "VFNet"
    cfg.MODEL.DEVICE = "meta"
    cfg.MODEL.BACKBONE.NAME = "build_vfnet_res2net_pafpn_backbone"
    cfg.MODEL.FPN.OUT_CHANNELS = cfg.MODEL.VFNET.CONV_CHANNELS = 384
    cfg.MODEL.PAFPN.NORM, cfg.MODEL.PAFPN.DEFORM = "GN", True
    cfg.MODEL.VFNET.NUM_CONVS, cfg.MODEL.VFNET.DEFORM_LAST_CONV = 4, True
    with torch.device("meta"):
        model = build_model(cfg)
    assert count(model.backbone) - count(model.backbone.fpn.bottom_up) == 14_936_145
    assert count(model.head) == 15_095_960


def test_groups_make_a_resnext():
    backbone = build_backbone(config(NUM_GROUPS=4, WIDTH_PER_GROUP=2))
    convolution = backbone.bottom_up.res4[0].conv2
    assert convolution.groups == 4
    assert convolution.weight.shape == (32, 8, 3, 3)


def test_stem_and_res2_are_frozen_and_the_other_norms_learn_with_fixed_statistics():
    backbone = build_backbone(config()).train()
    bottom_up = backbone.bottom_up
    frozen = [bottom_up.stem, bottom_up.res2]
    assert not any(p.requires_grad for module in frozen for p in module.parameters())
    # Which converted weights lack, so that Detectron2 would warn of it.
    assert not [n for n in bottom_up.res2.state_dict() if n.endswith("num_batches_tracked")]
    norm = bottom_up.res3[0].conv1.norm
    assert norm.weight.requires_grad
    before = norm.running_mean.clone()
    sum(f.sum() for f in backbone(torch.randn(2, 3, 64, 64)).values()).backward()
    assert torch.equal(norm.running_mean, before)
    assert norm.weight.grad.abs().max() > 0


@pytest.mark.parametrize("key", ["RESNETS.NORM_EVAL", "VFNET.BACKBONE_NORM_EVAL"])
def test_norms_learn_their_statistics_where_asked(key):
    cfg = config()
    cfg.merge_from_list([f"MODEL.{key}", False])
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    backbone = build_backbone(cfg).train()
    norm = backbone.bottom_up.stem.conv1.norm
    before = norm.running_mean.clone()
    backbone(torch.randn(2, 3, 64, 64))
    assert not torch.equal(norm.running_mean, before)


@pytest.mark.parametrize("depth", [18, 50])
def test_zero_initialised_blocks_start_as_the_identity(depth):
    backbone = build_backbone(config(depth, ZERO_INIT_RESIDUAL=True)).eval()
    block = backbone.bottom_up.res3[1]
    x = torch.rand(1, block.in_channels, 8, 8)
    torch.testing.assert_close(block(x), x)


def test_the_neck_is_initialised_as_mmdets():
    torch.manual_seed(0)
    cfg = config()
    cfg.MODEL.FPN.OUT_CHANNELS = 64
    backbone = build_backbone(cfg)
    for name, module in backbone.named_children():
        for convolution in module.modules() if name != "bottom_up" else ():
            if isinstance(convolution, nn.Conv2d):
                taps = convolution.kernel_size[0] ** 2
                fans = taps * (convolution.in_channels + convolution.out_channels)
                bound = (6 / fans) ** 0.5
                assert convolution.weight.abs().max() <= bound
                assert convolution.weight.abs().max() > 0.98 * bound
                assert (convolution.bias == 0).all()


def deformable(modulated=True, **resnets):
    stages = [False, True, True, True]
    return config(DEFORM_ON_PER_STAGE=stages, DEFORM_MODULATED=modulated, **resnets)


@pytest.mark.parametrize("modulated", [True, False])
@pytest.mark.parametrize(("groups", "deform_groups"), [(1, 1), (4, 1), (1, 2)])
def test_deformable_blocks_keep_detectron2s_names_and_learn_on_a_cpu(
    groups, deform_groups, modulated
):
    torch.manual_seed(0)
    sizes = {"NUM_GROUPS": groups, "WIDTH_PER_GROUP": 8, "DEFORM_NUM_GROUPS": deform_groups}
    cfg = deformable(modulated, **sizes)
    backbone = build_backbone(cfg)
    block = backbone.bottom_up.res3[0]
    detectron2_block = DeformBottleneckBlock(
        block.in_channels,
        block.out_channels,
        bottleneck_channels=block.conv1.out_channels,
        stride=2,
        num_groups=groups,
        deform_modulated=modulated,
        deform_num_groups=deform_groups,
    )
    shapes = {name: value.shape for name, value in detectron2_block.state_dict().items()}
    assert {name: value.shape for name, value in block.state_dict().items()} == shapes
    for module in backbone.modules():
        if isinstance(module, DeformBottleneckBlock):
            nn.init.normal_(module.conv2_offset.weight, std=0.05)
    sum(f.square().sum() for f in backbone(torch.randn(1, 3, 64, 96)).values()).backward()
    for stage in ("res3", "res4", "res5"):
        for block in getattr(backbone.bottom_up, stage):
            for parameter in (block.conv2.weight, block.conv2_offset.weight):
                assert parameter.grad.isfinite().all()
                assert parameter.grad.abs().max() > 0


def test_a_block_of_version_1_convolves_at_its_offsets_alone():
    torch.manual_seed(0)
    block = build_backbone(deformable(False)).eval().bottom_up.res3[0]
    nn.init.normal_(block.conv2_offset.weight, std=0.1)
    x = torch.randn(1, block.in_channels, 16, 24)
    narrow = block.conv1(x).relu()
    offset = block.conv2_offset(narrow)
    assert offset.shape == (1, 18, 8, 12)
    taps = deform_conv2d(narrow, offset, block.conv2.weight, stride=2, padding=1)
    expected = block.conv3(block.conv2.norm(taps).relu()) + block.shortcut(x)
    torch.testing.assert_close(block(x), expected.relu(), rtol=1e-4, atol=1e-4)


def test_only_the_stages_asked_for_are_deformable():
    bottom_up = build_backbone(deformable()).bottom_up
    found = {
        stage: any(isinstance(block, DeformBottleneckBlock) for block in getattr(bottom_up, stage))
        for stage in ("res2", "res3", "res4", "res5")
    }
    assert found == {"res2": False, "res3": True, "res4": True, "res5": True}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depth": 20}, "DEPTH must be one of"),
        ({"depth": 18, "NUM_GROUPS": 4}, "R-18 and R-34"),
        ({"RES5_DILATION": 2}, "RES5_DILATION must be 1"),
        ({"ZERO_INIT_RESIDUAL": True, "NORM": "FrozenBN"}, "needs norms that learn"),
    ],
)
def test_what_cannot_be_built_is_an_error(settings, message):
    with pytest.raises(UserError, match=message):
        build_backbone(config(**settings))


@pytest.mark.parametrize("modulated", [True, False])
@pytest.mark.parametrize("neck", ["fpn", "pafpn"])
def test_res2net_with_dcn_learns_on_a_cpu(neck, modulated):
    torch.manual_seed(0)
    cfg = deformable(modulated)
    cfg.MODEL.BACKBONE.NAME = f"build_vfnet_res2net_{neck}_backbone"
    cfg.MODEL.RES2NET.BASE_WIDTH = 4
    cfg.MODEL.PAFPN.NORM, cfg.MODEL.PAFPN.DEFORM = "GN", True
    cfg.MODEL.FPN.OUT_CHANNELS = 64
    backbone = build_backbone(cfg)
    features = backbone(torch.randn(2, 3, 128, 128))
    assert [f.shape[-1] for f in features.values()] == [16, 8, 4, 2, 1]
    sum(f.square().sum() for f in features.values()).backward()
    learnt = [p for p in backbone.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in learnt)


def test_res2net_needs_bottlenecks():
    cfg = config(18)
    cfg.MODEL.BACKBONE.NAME = "build_vfnet_res2net_fpn_backbone"
    with pytest.raises(UserError, match="Res2Net needs MODEL.RESNETS.DEPTH 50, 101 or 152"):
        build_backbone(cfg)
