"""ImageNet backbones of mmdet and torchvision, as mmdet://FILE, into models of either neck."""

import logging

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.utils.file_io import PathManager

from vfnet.checkpoint import VFNetCheckpointer, to_mmdet_state_dict

from .loading import refused, same, snapshot

RES2NET = ["MODEL.RES2NET.BASE_WIDTH", 4]
MODELS = {
    "ResNet, FPN": [],
    "ResNeXt, FPN": ["MODEL.RESNETS.NUM_GROUPS", 4, "MODEL.RESNETS.WIDTH_PER_GROUP", 2],
    "Res2Net, FPN": ["MODEL.BACKBONE.NAME", "build_vfnet_res2net_fpn_backbone", *RES2NET],
    "Res2Net, PAFPN": [
        *("MODEL.BACKBONE.NAME", "build_vfnet_res2net_pafpn_backbone", *RES2NET),
        *("MODEL.PAFPN.NORM", "GN", "MODEL.PAFPN.DEFORM", True),
    ],
}
DEFORMABLE = [
    *("MODEL.RESNETS.DEFORM_MODULATED", True),
    *("MODEL.RESNETS.DEFORM_ON_PER_STAGE", [False, True, True, True]),
]
CHECKPOINTERS = [DetectionCheckpointer, VFNetCheckpointer]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))


def bottom_up_of(model):
    """The backbone's names begin so."""
    return "backbone.fpn.bottom_up." if hasattr(model.backbone, "fpn") else "backbone.bottom_up."


def published_file(model, folder, nested=False):
    """Write the model's backbone as mmdet publishes one: bare names, counters, a classifier."""
    prefix = bottom_up_of(model)
    weights = {
        name[len(prefix) :]: value
        for name, value in model.state_dict().items()
        if name.startswith(prefix)
    }
    bare = to_mmdet_state_dict(weights)
    bare["fc.weight"], bare["fc.bias"] = torch.ones(1000, 8), torch.ones(1000)
    bare["layer1.0.bn1.num_batches_tracked"] = torch.tensor(9)
    torch.save({"state_dict": bare} if nested else bare, folder / "imagenet.pth")
    return f"mmdet://{folder}/imagenet.pth"


@pytest.mark.parametrize("kind", MODELS)
def test_the_file_has_the_names_that_mmdet_publishes(kind, make_model, tmp_path):
    published_file(make_model(*MODELS[kind]), tmp_path)
    names = set(torch.load(tmp_path / "imagenet.pth", weights_only=True))
    common = {"layer4.2.conv3.weight", "layer1.0.bn1.running_var", "fc.weight"}
    if kind.startswith("Res2Net"):
        common |= {"stem.0.weight", "stem.4.bias", "stem.6.weight", "layer3.5.convs.2.weight"}
        common |= {"layer2.0.bns.0.weight", "layer1.0.downsample.1.weight"}
        common |= {"layer4.0.downsample.2.running_mean"}
    else:
        common |= {"conv1.weight", "bn1.running_mean", "layer2.3.conv2.weight"}
        common |= {"layer1.0.downsample.0.weight", "layer4.0.downsample.1.bias"}
    assert common <= names
    assert not any(name.startswith(("backbone", "res", "stem.conv")) for name in names)


@pytest.mark.parametrize("checkpointer", CHECKPOINTERS)
@pytest.mark.parametrize("kind", MODELS)
def test_the_whole_backbone_is_filled_and_nothing_else(kind, checkpointer, make_model, tmp_path):
    donor, model = make_model(*MODELS[kind], seed=1), make_model(*MODELS[kind])
    for module in donor.backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # else these are equal in any two models
            torch.nn.init.uniform_(module.running_mean)
    before, given = snapshot(model), snapshot(donor)
    checkpointer(model).load(published_file(donor, tmp_path))
    loaded = 0
    for name, value in model.state_dict().items():
        if name.startswith(bottom_up_of(model)) and "num_batches_tracked" not in name:
            assert torch.equal(value, given[name]), name
            loaded += not torch.equal(value, before[name])
        else:
            assert torch.equal(value, before[name]), name
    assert loaded > 50


def test_the_converted_file_has_names_without_prefix(make_model, tmp_path):
    local = PathManager.get_local_path(published_file(make_model(), tmp_path, nested=True))
    converted = torch.load(local, weights_only=True)
    assert converted["matching_heuristics"] is True and converted["__author__"] == "mmdet"
    first = ["stem.conv1.weight", "stem.conv1.norm.weight", "stem.conv1.norm.bias"]
    assert list(converted["model"])[:3] == first


@pytest.mark.parametrize("kind", ["ResNet, FPN", "Res2Net, PAFPN"])
def test_offset_branches_stay_as_they_were(kind, make_model, tmp_path):
    model = make_model(*MODELS[kind], *DEFORMABLE)
    before = snapshot(model)
    VFNetCheckpointer(model).load(published_file(make_model(*MODELS[kind], seed=1), tmp_path))
    offsets = [name for name in before if "bottom_up" in name and "offset" in name]
    assert offsets and all(torch.equal(model.state_dict()[n], before[n]) for n in offsets)
    assert not same(model, before)


@pytest.mark.parametrize("kind", ["ResNet, FPN", "Res2Net, PAFPN"])
def test_nothing_of_the_backbone_is_warned_of(kind, make_model, tmp_path, caplog):
    path = published_file(make_model(*MODELS[kind]), tmp_path)
    with caplog.at_level(logging.WARNING):
        VFNetCheckpointer(make_model(*MODELS[kind], seed=1)).load(path)
    assert not any("bottom_up" in record.getMessage() for record in caplog.records)


def test_a_detectors_own_backbone_can_be_taken_alone(make_model, tmp_path):
    donor, model = make_model(seed=1), make_model()
    state_dict = to_mmdet_state_dict(snapshot(donor))
    backbone = {k: v for k, v in state_dict.items() if k.startswith("backbone.")}
    torch.save({"state_dict": backbone}, tmp_path / "backbone.pth")
    VFNetCheckpointer(model).load(f"mmdet://{tmp_path}/backbone.pth")
    name = "backbone.bottom_up.res5.2.conv3.weight"
    assert torch.equal(model.state_dict()[name], donor.state_dict()[name])


def test_another_depth_is_refused_in_both_directions(make_model, tmp_path):
    shallow, deep = ["MODEL.RESNETS.DEPTH", 18], ["MODEL.RESNETS.DEPTH", 34]
    path = published_file(make_model(*shallow), tmp_path)
    refused(make_model(*deep), path, "Missing in the file: backbone.bottom_up.res2.2.conv1.weight")
    path = published_file(make_model(*deep), tmp_path)
    refused(make_model(*shallow), path, "Not in the model: backbone.bottom_up.res2.2.conv1.weight")


def test_another_width_is_refused(make_model, tmp_path):
    path = published_file(make_model("MODEL.RESNETS.WIDTH_PER_GROUP", 16), tmp_path)
    match = r"res2.0.conv1.weight \(16, 8, 1, 1\) instead of \(8, 8, 1, 1\)"
    refused(make_model(), path, match)


@pytest.mark.parametrize("kind", ["Res2Net, FPN", "Res2Net, PAFPN"])
def test_another_kind_of_backbone_is_refused(kind, make_model, tmp_path):
    refused(make_model(*MODELS[kind]), published_file(make_model(), tmp_path), "does not fit")
    path = published_file(make_model(*MODELS[kind]), tmp_path)
    refused(make_model(), path, "Not in the model: backbone.bottom_up.stem.conv2.weight")


def test_a_backbone_is_no_whole_detector(make_model, tmp_path):
    path = published_file(make_model(), tmp_path)
    refused(make_model(), path, "expected a whole detector", whole_detector=True)
