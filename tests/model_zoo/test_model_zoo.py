"""Configs, published weights and models by name, as in `detectron2.model_zoo`."""

from pathlib import Path

import pytest
import torch

from vfnet import model_zoo
from vfnet.errors import UserError


def test_a_config_is_found_with_and_without_its_ending(repository):
    expected = repository / "configs" / "vfnet_R50_1x.yaml"
    assert Path(model_zoo.get_config_file("vfnet_R50_1x.yaml")) == expected
    assert Path(model_zoo.get_config_file("vfnet_R50_1x")) == expected


def test_every_config_of_the_repository_is_found_by_its_path_and_by_its_name(repository):
    configs = repository / "configs"
    paths = list(configs.rglob("*.yaml"))
    assert len(paths) > 5
    for path in paths:
        name = path.relative_to(configs).as_posix()
        assert Path(model_zoo.get_config_file(name)) == path
        assert Path(model_zoo.get_config_file(path.stem)) == path


@pytest.mark.parametrize(
    "name", ["vfnet_R51_1x", "../configs/vfnet_R50_1x.yaml", "ablation/vfnet_R50_1x", ""]
)
def test_an_unknown_name_is_told_the_nearest(name):
    with pytest.raises(UserError, match=r"vfnet_R50_1x\.yaml"):
        model_zoo.get_config_file(name)


def test_get_config_holds_the_file_its_base_and_the_defaults():
    cfg = model_zoo.get_config("ablation/vfnet_R50_1x_raw")
    assert not cfg.MODEL.VFNET.STAR_FEATURES  # the file
    assert cfg.MODEL.META_ARCHITECTURE == "VFNet"  # its base
    assert cfg.SOLVER.AMP.PRECISION == "float16"  # a default


def test_a_checkpoints_url_is_what_the_weights_key_takes():
    url = model_zoo.get_checkpoint_url("vfnet_R50_1x.yaml")
    assert url == model_zoo.get_checkpoint_url("vfnet_R50_1x")
    assert url.startswith("mmdet://https://download.openmmlab.com/mmdetection/v2.0/vfnet/")
    assert url.endswith("/vfnet_r50_fpn_1x_coco_20201027-38db6f58.pth")


@pytest.mark.parametrize(
    "name, end",
    [
        ("gfl_R50_1x", "gfl/gfl_r50_fpn_1x_coco/gfl_r50_fpn_1x_coco_20200629_121244-25944287.pth"),
        ("GFL/gfl_R50_1x.yaml", "gfl_r50_fpn_1x_coco_20200629_121244-25944287.pth"),
        ("reppoints_X101_dcn_gn_2x", "c3-c5_gn-neck%2Bhead_2x_coco_20200329-f87da1ea.pth"),
    ],
)
def test_the_family_is_found_in_its_folders(name, end):
    assert model_zoo.get_checkpoint_url(name).endswith(end)
    cfg = model_zoo.get_config(name, trained=True)
    assert cfg.MODEL.WEIGHTS == model_zoo.get_checkpoint_url(name)
    assert cfg.INPUT.RESIZE == "cv2"


def test_trained_sets_the_weights_with_their_resizing_and_nothing_else():
    plain, trained = (model_zoo.get_config("vfnet_R101_1x", trained=t) for t in (False, True))
    assert "resnet101-63fe2227" in plain.MODEL.WEIGHTS
    assert trained.MODEL.WEIGHTS == model_zoo.get_checkpoint_url("vfnet_R101_1x")
    assert (plain.INPUT.RESIZE, trained.INPUT.RESIZE) == ("pil", "cv2")
    plain.MODEL.WEIGHTS, plain.INPUT.RESIZE = trained.MODEL.WEIGHTS, trained.INPUT.RESIZE
    assert trained == plain


@pytest.mark.parametrize("call", [model_zoo.get_checkpoint_url, model_zoo.get])
@pytest.mark.parametrize(
    "name, match",
    [
        ("vfnet_R101_2x.yaml", "vfnet_R101_2x .*Google Drive.*VarifocalNet.*mmdet://FILE"),
        ("gflv2_R50_1x", "gflv2_R50_1x .*Google Drive.*implus/GFocalV2.*mmdet://FILE"),
        ("atss_R50_1x_varifocal", "Google Drive.*hyz-xmaster/VarifocalNet.*mmdet://FILE"),
        ("atss_R50_1x_focal", "published weights.*atss_R50_1x,"),
        ("ablation/vfnet_R50_1x_raw.yaml", "published weights.*vfnet_R50_1x,"),
    ],
)
def test_what_is_published_nowhere_or_elsewhere_is_an_error(call, name, match):
    arguments = {} if call is model_zoo.get_checkpoint_url else {"trained": True}
    with pytest.raises(UserError, match=match):
        call(name, **arguments)


@pytest.fixture
def miniature(repository, tmp_path, monkeypatch):
    """A zoo of one small model: what was trained, and an ImageNet backbone for it."""
    reference = repository / "tests" / "reference"
    state_dict = torch.load(reference / "mini_r50.pth", weights_only=True)["state_dict"]
    backbone = {n[len("backbone.") :]: v for n, v in state_dict.items() if n.startswith("backbone")}
    torch.save(backbone, tmp_path / "imagenet.pth")
    (tmp_path / "mini.yaml").write_text(
        f"_BASE_: {reference}/mini_r50.yaml\nMODEL:\n  WEIGHTS: mmdet://{tmp_path}/imagenet.pth\n"
    )
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(model_zoo, "get_config_file", lambda path: str(tmp_path / "mini.yaml"))
    monkeypatch.setattr(model_zoo, "weights_url", lambda path: str(reference / "mini_r50.pth"))
    return state_dict


def test_get_gives_the_trained_model_in_training_mode(miniature):
    model = model_zoo.get("mini", trained=True, device="cpu")
    assert model.training and model.device.type == "cpu"
    assert torch.equal(model.head.cls_pred.weight, miniature["bbox_head.vfnet_cls.weight"])
    scale = miniature["backbone.layer4.2.bn3.running_var"]
    assert torch.equal(model.backbone.bottom_up.res5[2].conv3.norm.running_var, scale)


def test_get_without_trained_loads_the_configs_own_weights(miniature):
    torch.manual_seed(0)
    model = model_zoo.get("mini")
    stem = miniature["backbone.conv1.weight"]
    assert torch.equal(model.backbone.bottom_up.stem.conv1.weight.cpu(), stem)
    assert model.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert not torch.equal(
        model.head.box_conv.weight.cpu(), miniature["bbox_head.vfnet_reg_conv.conv.weight"]
    )


def test_get_refuses_weights_of_another_number_of_classes(miniature, tmp_path):
    with open(tmp_path / "mini.yaml", "a") as stream:
        stream.write("  VFNET:\n    NUM_CLASSES: 4\n")
    with pytest.raises(UserError, match="head.cls_pred.weight"):
        model_zoo.get("mini", trained=True)
