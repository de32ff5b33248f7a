"""Backbones of timm: their features, what learns, what is loaded, and what is refused."""

import subprocess
import sys

import pytest
import torch
from detectron2.layers.batch_norm import LayerNorm
from detectron2.modeling import build_backbone, build_model
from torch import nn

from tests.config_files import ALL, load
from tests.engine.tiny import tiny_config
from tests.extras import needs

from .timm_models import MODELS, with_timm

pytestmark = needs("timm")

import timm  # noqa: E402

from vfnet.errors import UserError  # noqa: E402
from vfnet.modeling.backbone.timm_backbone import TimmBackbone  # noqa: E402

STRIDES = {"res3": 8, "res4": 16, "res5": 32}


def backbone_of(name, features=tuple(STRIDES), **more):
    model, kwargs = MODELS[name]
    torch.manual_seed(0)
    return TimmBackbone(model, list(features), kwargs=dict(kwargs), **more)


@pytest.mark.parametrize("name", MODELS)
def test_features_are_timms_own(name):
    model, kwargs = MODELS[name]
    backbone = backbone_of(name).eval()
    reductions = [info["reduction"] for info in timm.create_model(model).feature_info]
    places = [max(i for i, r in enumerate(reductions) if r == s) for s in STRIDES.values()]
    own = timm.create_model(model, features_only=True, out_indices=places, **dict(kwargs)).eval()
    # timm renames modules there, and keeps their order.
    weights = dict(zip(own.state_dict(), backbone.model.state_dict().values(), strict=True))
    own.load_state_dict(weights)
    image = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        features, expected = backbone(image), own(image)
    assert list(features) == list(STRIDES)
    for feature, timms in zip(features.values(), expected):
        if name == "swin":  # channels last
            timms = timms.permute(0, 3, 1, 2)
        torch.testing.assert_close(feature, timms)


@pytest.mark.parametrize("name", MODELS)
def test_levels_of_an_odd_picture(name):
    model = build_model(with_timm(tiny_config(""), name)).eval()
    with torch.no_grad():
        _, features, _ = model.predict([{"image": torch.zeros(3, 203, 77)}])  # 224 x 96
    sizes = [tuple(feature.shape[1:]) for feature in features]
    assert sizes == [(32, 28, 12), (32, 14, 6), (32, 7, 3), (32, 4, 2), (32, 2, 1)]
    assert [shape.stride for shape in model.backbone.output_shape().values()] == model.strides


def test_with_res2_there_is_p2():
    cfg = with_timm(tiny_config(""), "convnext")
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    backbone = build_backbone(cfg)
    assert backbone.bottom_up.output_shape()["res2"].channels == 8
    assert backbone(torch.zeros(1, 3, 64, 64))["p2"].shape[-2:] == (16, 16)


@pytest.mark.parametrize("name", MODELS)
def test_a_gradient_reaches_every_parameter(name):
    backbone = backbone_of(name, norm="LN").train()
    total = sum(f.square().sum() for f in backbone(torch.randn(2, 3, 64, 96)).values())
    (total + sum(f.sum() for f in backbone(torch.randn(2, 3, 64, 96)).values())).backward()
    assert all(isinstance(norm, LayerNorm) for norm in backbone.norms.values())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in backbone.parameters())


def test_what_no_feature_comes_from_does_not_learn():
    # HRNet's last stage has a branch for each level, the finest of which is not asked for.
    with torch.device("meta"):
        backbone = TimmBackbone("hrnet_w18_small", list(STRIDES))
    idle = [name for name, p in backbone.named_parameters() if not p.requires_grad]
    assert idle and {name.split(".")[1] for name in idle} <= {"stage4", "incre_modules"}


def test_padding_for_windows_leaves_the_sizes():
    backbone = backbone_of("convnext", size_divisibility=64).eval()
    image = torch.randn(1, 3, 96, 32)
    with torch.no_grad():
        features = backbone(image)
        padded = backbone(nn.functional.pad(image, (0, 32, 0, 32)))
    for name, stride in STRIDES.items():
        rows, columns = 96 // stride, 32 // stride
        assert torch.equal(features[name], padded[name][..., :rows, :columns])


def test_batch_norms_keep_their_statistics_unless_asked():
    for norm_eval in (True, False):
        backbone = backbone_of("mobilenet", norm_eval=norm_eval).train()
        before = backbone.model.bn1.running_mean.clone()
        backbone(torch.randn(2, 3, 64, 64))
        assert torch.equal(backbone.model.bn1.running_mean, before) == norm_eval
        assert backbone.model.bn1.weight.requires_grad


def test_frozen_stages_neither_learn_nor_drop():
    backbone = backbone_of("convnext", freeze_at=2).train()
    frozen = {name for name, p in backbone.named_parameters() if not p.requires_grad}
    names = [name for name, _ in backbone.named_parameters()]
    assert frozen == {n for n in names if n.startswith(("model.stem.", "model.stages.0."))}
    assert not backbone.model.stages[0].blocks[0].training
    assert backbone.model.stages[1].training


def test_stochastic_depth_is_the_last_blocks():
    cfg = with_timm(tiny_config(""), "swin", "MODEL.TIMM.DROP_PATH_RATE", 0.2)
    blocks = build_backbone(cfg).bottom_up.model.layers
    assert blocks[3].blocks[0].drop_path1.drop_prob == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"NAME": ""}, "MODEL.TIMM.NAME must be a model of timm"),
        ({"NAME": "convnxt_tiny"}, "do you mean convnext_tiny"),
        ({"NAME": "convnext_atto.none"}, "Invalid pretrained tag"),
        ({"NAME": "vit_tiny_patch16_224"}, r"strides \[8, 16, 32\], but vit_tiny.*has \[16\]"),
        ({"NAME": "coat_lite_tiny"}, "pictures of any size.*doesn't match model"),
        ({"NAME": "maxvit_pico_rw_256"}, "set MODEL.TIMM.SIZE_DIVISIBILITY"),
        ({"NAME": "convnext_atto", "KWARGS": [["foo", 1]]}, "KWARGS.*'foo'"),
        ({"KWARGS": ["depths"]}, r"a list of \[name, value\].*got 'depths'"),
        ({"KWARGS": [["pretrained", True]]}, "must not have 'pretrained'"),
        ({"KWARGS": [["features_only", True]]}, "must not have 'features_only'"),
        ({"KWARGS": [["depths", [1]]]}, "cannot build convnext_atto.*IndexError"),
    ],
)
def test_what_cannot_be_built_is_an_error(settings, message):
    cfg = with_timm(tiny_config(""), "convnext")
    cfg.MODEL.TIMM.KWARGS = []
    for key, value in settings.items():
        cfg.MODEL.TIMM[key] = value
    with torch.device("meta"), pytest.raises(UserError, match=message):
        build_backbone(cfg)


def test_windows_that_fill_the_picture_can_be_had():
    with torch.device("meta"):
        TimmBackbone("maxvit_pico_rw_256", list(STRIDES), size_divisibility=256)


def test_without_timm_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"vfnet-detectron2\[timm\]"):
        backbone_of("convnext")


def test_importing_vfnet_does_not_import_timm():
    check = "import sys, vfnet; assert 'timm' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)


@pytest.mark.parametrize("name", [n for n in ALL if n.startswith("timm/") and "Base-" not in n])
def test_configs(name):
    cfg = load(name)
    cfg.MODEL.DEVICE = "meta"
    assert cfg.MODEL.WEIGHTS.startswith(f"timm://{cfg.MODEL.TIMM.NAME}.")
    assert cfg.SOLVER.CLIP_GRADIENTS.ENABLED
    with torch.device("meta"):
        backbone = build_model(cfg).backbone
    assert list(backbone.output_shape()) == ["p3", "p4", "p5", "p6", "p7"]
    assert sum(p.numel() for p in backbone.bottom_up.model.parameters()) > 27e6
