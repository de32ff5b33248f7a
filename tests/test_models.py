"""The published networks: each yaml gives the reference's number of parameters, and learns."""

import numpy as np
import pytest
import torch
import yaml
from detectron2.config import CfgNode
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from torch import nn

from tests.config_files import CONFIGURED, MODELS, ROWS, load, stem
from tests.parameters import DERIVED, IN_HEAD, R50, R50_DCN, in_stages, network
from vfnet.config import detector_node
from vfnet.data import build_mapper
from vfnet.data.datasets.shapes import load_shapes
from vfnet.solver import build_optimizer

# The other folders train or evaluate these networks, or have tests of their own: they are built
# below, not stepped; those that need an extra are not.
OTHERS = [
    name
    for name in CONFIGURED
    if name not in MODELS and not stem(name).startswith("Base-") and not name.startswith("timm/")
]
PUBLISHED = [name for name in MODELS if not name.startswith("ablation/")]
# All but those of the family that differ from another one in depth, width or schedule alone.
_FIRST = {network(stem(name)): name for name in reversed(PUBLISHED)}
_NETWORKS = {name for key, name in _FIRST.items() if "R50" in key or "dcn" in key}
STEPPED = [n for n in MODELS if n.startswith(("ablation/", "vfnet")) or n in _NETWORKS]


# Short sides of multi-scale training.
SCALES = {
    "vfnet": ((480, 960), "range", ()),
    "gfl": ((480, 800), "range", ()),
    "gflv2": ((480, 960), "range", ()),
    "retinanet": ((640, 800), "range", ()),
    "foveabox": ((640, 800), "choice", ()),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_training_sizes_and_augmentation(name):
    inputs = load(name).INPUT
    sizes = (inputs.MIN_SIZE_TRAIN, inputs.MIN_SIZE_TRAIN_SAMPLING, inputs.MAX_SIZE_TRAIN_RANGE)
    detector = stem(name).split("_")[0]
    if detector == "vfnetx":
        assert sizes == ((500, 1400), "range", (750, 2100))
        assert (inputs.CROP.ENABLED, inputs.CUTOUT.ENABLED) == (True, True)
        assert (inputs.CROP.TYPE, inputs.CROP.SIZE) == ("relative_range", [0.75, 0.75])
        assert (inputs.CROP.PROBABILITY, inputs.CUTOUT.PROBABILITY) == (0.5, 0.5)
        return
    assert sizes == (SCALES[detector] if "_ms_" in name else ((800,), "choice", ()))
    assert not inputs.CROP.ENABLED and not inputs.CUTOUT.ENABLED


# By a part of the name: groups, the neck's builder, the file of ImageNet weights.
BACKBONES = {
    "_R50_": (1, "resnet_fpn", "detectron2://ImageNetPretrained/torchvision/R-50.pkl"),
    "_R101_": (1, "resnet_fpn", "mmdet://https://download.pytorch.org/models/resnet101-63fe2227"),
    "_X101_32x4d_": (32, "resnet_fpn", "resnext101_32x4d-a5af3160"),
    "_X101_64x4d_": (64, "resnet_fpn", "resnext101_64x4d-ee2c6f71"),
    "reppoints_X101_": (32, "resnet_fpn", "resnext101_32x4d-a5af3160"),
    "vfnet_R2_101_": (1, "res2net_fpn", "res2net101_v1d_26w_4s_mmdetv2-f0a600f9"),
    "gflv2_R2_101_": (1, "res2net_fpn", "res2net101_v1d_26w_4s_mmdetv2-f0a600f9"),
    "vfnetx_R2_101_": (1, "res2net_pafpn", "res2net101_v1d_26w_4s_mmdetv2-f0a600f9"),
}
OPEN_MMLAB = "mmdet://https://download.openmmlab.com/pretrain/third_party/{}.pth"


@pytest.mark.parametrize("name", PUBLISHED)
def test_networks(name):
    model = load(name).MODEL
    resnets = model.RESNETS
    groups, neck, weights = next(found for part, found in BACKBONES.items() if part in name)
    assert resnets.DEPTH == (50 if "_R50_" in name else 101)
    assert (resnets.NUM_GROUPS, resnets.WIDTH_PER_GROUP) == (groups, 64 if groups == 1 else 4)
    builders = [model.BACKBONE.NAME]
    if "libra_" in name:
        builders = [model.BFP.BACKBONE, model.BACKBONE.NAME]
        assert builders[1:] == ["build_bfp_backbone"]
    assert builders[0] == f"build_vfnet_{neck}_backbone"
    if "://" in weights:
        assert model.WEIGHTS.startswith(weights)
    else:
        assert model.WEIGHTS == OPEN_MMLAB.format(weights)
    dcn = "_dcn_" in name or name.startswith("vfnetx")
    from_res4 = name.startswith("GFL/") and "_R101_" not in name
    assert resnets.DEFORM_ON_PER_STAGE == [False, dcn and not from_res4, dcn, dcn]
    version_2 = dcn and name.startswith("vfnet")
    assert resnets.DEFORM_MODULATED == version_2 == model.VFNET.DEFORM_LAST_CONV


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name.startswith("vfnetx")])
def test_vfnetx_has_a_wide_neck_a_deep_head_and_soft_nms(name):
    model = load(name).MODEL
    assert (model.FPN.OUT_CHANNELS, model.PAFPN.NORM, model.PAFPN.DEFORM) == (384, "GN", True)
    assert (model.VFNET.CONV_CHANNELS, model.VFNET.NUM_CONVS, model.VFNET.NORM) == (384, 4, "GN")
    assert (model.VFNET.NMS_TYPE, model.VFNET.NMS_THRESH_TEST) == ("soft_nms_linear", 0.65)
    assert (model.VFNET.SOFT_NMS_MIN_SCORE, model.VFNET.SCORE_THRESH_TEST) == (0.001, 0.05)
    assert (model.RES2NET.SCALES, model.RES2NET.BASE_WIDTH) == (4, 26)


def build_without_memory(cfg: CfgNode) -> nn.Module:
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        return build_model(cfg)


def count(model: nn.Module) -> int:
    """Parameters, the scale and shift of frozen batch norms (buffers in Detectron2) included."""
    frozen = (m for m in model.modules() if isinstance(m, FrozenBatchNorm2d))
    affine = sum(m.weight.numel() + m.bias.numel() for m in frozen)
    return affine + sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", DERIVED)
def test_rows_say_what_the_reference_counts(name):
    assert ROWS[name].parameters == str(DERIVED[name])


def test_offset_branches_are_what_the_reference_has_more_with_dcn():
    assert R50_DCN - R50 == in_stages(128, res4_blocks=6) + IN_HEAD


@pytest.mark.parametrize("name", MODELS)
def test_number_of_parameters(name):
    assert ROWS[stem(name)].parameters == str(count(build_without_memory(load(name))))


def test_what_learns_in_r50_is_all_but_stem_and_res2():
    model = build_without_memory(load("vfnet_R50_1x.yaml"))
    # Counted in the reference implementation.
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 32_666_210


@pytest.mark.parametrize("name", OTHERS)
def test_every_other_config_can_be_built(name):
    assert count(build_without_memory(load(name))) > 0


def narrow(cfg: CfgNode) -> CfgNode:
    """The same network with few channels, the same augmentation at a tenth of the sizes."""
    model, sizes = cfg.MODEL, cfg.INPUT
    model.DEVICE, model.WEIGHTS = "cpu", ""
    # A step that float32 shows, even of a scale that starts at 1 and has nearly no gradient.
    cfg.SOLVER.BASE_LR = 1.0
    model.RESNETS.STEM_OUT_CHANNELS, model.RESNETS.RES2_OUT_CHANNELS = 8, 32
    model.RESNETS.WIDTH_PER_GROUP = 8 if model.RESNETS.NUM_GROUPS == 1 else 1
    model.RES2NET.BASE_WIDTH = 4
    # Two channels in each of the 32 groups of a norm: with one, a map of one cell has no variance.
    model.FPN.OUT_CHANNELS = 64
    for key in {"CONV_CHANNELS", "POINT_CHANNELS"} & set(detector_node(cfg)):
        detector_node(cfg)[key] = 64
    sizes.MAX_SIZE_TRAIN //= 10
    for key in ("MIN_SIZE_TRAIN", "MAX_SIZE_TRAIN_RANGE"):
        sizes[key] = tuple(size // 10 for size in sizes[key])
    return cfg


@pytest.mark.parametrize("name", STEPPED)
def test_one_step_of_a_narrow_copy_moves_everything_that_learns(name):
    cfg = narrow(load(name))
    torch.manual_seed(0)
    np.random.seed(0)
    model = build_model(cfg).train()
    if "Libra/" in name:  # at zero, as it starts, it stops what lies before it from learning
        torch.nn.init.normal_(model.backbone.bfp.refine.conv_out.weight, std=0.1)
    learning = {n: p for n, p in model.named_parameters() if p.requires_grad}
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert {n.split(".bottom_up.")[1].split(".")[0] for n in frozen} == {"stem", "res2"}
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    mapper = build_mapper(cfg, is_train=True)
    optimizer = build_optimizer(cfg, model)
    with EventStorage():
        losses = model([mapper(record) for record in load_shapes("train")[:2]])
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    optimizer.step()
    assert all(p.grad.isfinite().all() for p in learning.values())
    # The factor of a level learns from that level's boxes, and such small images have none on P7.
    unmoved = {n for n, p in learning.items() if not p.grad.abs().max() > 0}
    assert {n for n in unmoved if "_scales." not in n} == set()
    assert {n for n, p in model.named_parameters() if torch.equal(p, before[n])} == frozen


# Keys in which the reference's small networks are small.
SMALL = {
    *("DEVICE", "DEPTH", "STEM_OUT_CHANNELS", "RES2_OUT_CHANNELS", "NUM_GROUPS"),
    *("WIDTH_PER_GROUP", "BASE_WIDTH", "OUT_CHANNELS", "CONV_CHANNELS", "NUM_CLASSES"),
    *("POINT_CHANNELS", "FC_DIM"),
}


@pytest.mark.parametrize(
    ("small", "names"),
    [
        ("mini_r50", ["vfnet_R50_1x", "vfnet_R101_1x"]),
        ("mini_r50_dcn", ["vfnet_R50_dcn_ms_2x", "vfnet_R101_dcn_ms_2x"]),
        ("mini_x50", ["vfnet_X101_32x4d_ms_2x", "vfnet_X101_64x4d_ms_2x"]),
        ("mini_r2_50", ["vfnet_R2_101_ms_2x"]),
        ("mini_r2_50_dcn", ["vfnet_R2_101_dcn_ms_2x"]),
        ("mini_vfnetx", ["vfnetx_R2_101_59e", "vfnetx_R2_101_59e_1200"]),
        ("mini_atss", ["ATSS/atss_R50_1x"]),
        ("mini_gfl", ["GFL/gfl_R50_1x", "GFL/gfl_R101_ms_2x", "GFL/gfl_X101_32x4d_ms_2x"]),
        ("mini_gflv2", ["GFL/gflv2_R50_1x", "GFL/gflv2_R50_ms_2x", "GFL/gflv2_R101_ms_2x"]),
        ("mini_retinanet", ["RetinaNet/retinanet_R50_1x", "RetinaNet/retinanet_X101_64x4d_2x"]),
        ("mini_libra_retinanet", ["Libra/libra_retinanet_R50_1x"]),
        ("mini_libra_faster_rcnn", ["Libra/libra_faster_rcnn_R50_1x"]),
        ("mini_fovea", ["FoveaBox/foveabox_R50_1x", "FoveaBox/foveabox_R101_2x"]),
        ("mini_reppoints", ["RepPoints/reppoints_R50_gn_1x", "RepPoints/reppoints_R101_gn_2x"]),
    ],
)
def test_models_are_as_the_small_networks_with_reference_numbers(shared, small, names):
    (path,) = (shared / "reference").rglob(f"{small}.yaml")
    reference = yaml.safe_load(path.read_text())["MODEL"]

    def differing(expected: dict, found: CfgNode) -> list[str]:
        nested = [
            key
            for name, child in expected.items()
            if isinstance(child, dict)
            for key in differing(child, found[name])
        ]
        values = {k: v for k, v in expected.items() if not isinstance(v, dict) and k not in SMALL}
        return nested + [key for key, value in values.items() if found[key] != value]

    for name in names:
        assert differing(reference, load(f"{name}.yaml").MODEL) == []
