"""The balanced feature pyramid: the reference's numbers, sums on paper, any pyramid inside."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone, build_model
from torch import nn
from torch.nn import functional as F

from tests.compare import relative_difference
from tests.engine.tiny import picture, tiny_config
from vfnet.errors import UserError
from vfnet.modeling import BalancedFeaturePyramid
from vfnet.modeling.backbone.bfp import adaptive_maximum


def tiny_bfp(*overrides):
    names = ("BACKBONE.NAME", "build_bfp_backbone"), ("BFP.BACKBONE", PYRAMID), *overrides
    return tiny_config("", *(word for key, value in names for word in (f"MODEL.{key}", str(value))))


PYRAMID = "build_vfnet_resnet_fpn_backbone"


@pytest.mark.parity
def test_levels_are_the_references(shared):
    expected = torch.load(shared / "reference/family/bfp_level1.pt", weights_only=True)
    bfp = BalancedFeaturePyramid(64, refine_level=expected["refine_level"], refine="non_local")
    bfp.load_state_dict(
        {name.replace(".conv.", "."): value for name, value in expected["state_dict"].items()}
    )
    for output, wanted in zip(bfp(expected["inputs"]), expected["outputs"], strict=True):
        assert relative_difference(output, wanted) < 1e-4


def test_every_level_gains_the_mean_of_all():
    fine = torch.tensor([[1.0, 5, 2, 2], [0, 0, 4, 0]]).view(1, 1, 2, 4)
    middle = torch.tensor([[10.0, 20]]).view(1, 1, 1, 2)
    coarse = torch.tensor([[100.0]]).view(1, 1, 1, 1)
    bfp = BalancedFeaturePyramid(1, refine_level=1, refine="")
    # The maxima of the fine level are 5 and 4: means (5 + 10 + 100) / 3 and (4 + 20 + 100) / 3.
    left, right = 115 / 3, 124 / 3
    expected = [
        fine + torch.tensor([left, left, right, right]),
        middle + torch.tensor([left, right]),
        coarse + right,
    ]
    for output, wanted in zip(bfp([fine, middle, coarse]), expected, strict=True):
        torch.testing.assert_close(output, wanted)


def test_a_cell_attends_to_all_cells_in_proportion_to_the_exponential_of_the_product():
    bfp = BalancedFeaturePyramid(1, refine_level=0, refine="non_local")
    with torch.no_grad():
        for name, weight in {"g": 3.0, "theta": 1.0, "phi": 2.0, "conv_out": 0.5}.items():
            getattr(bfp.refine, name).weight.fill_(weight)
    a, b = 0.25, 1.0
    level = torch.tensor([[a, b]]).view(1, 1, 1, 2)

    def refined(x):
        weights = torch.tensor([2 * x * a, 2 * x * b]).softmax(dim=0)
        return x + 0.5 * 3 * (weights * torch.tensor([a, b])).sum()

    expected = level + torch.stack([refined(a), refined(b)])
    torch.testing.assert_close(bfp([level])[0], expected)


def test_it_starts_as_the_mean_alone():
    torch.manual_seed(0)
    levels = [torch.randn(2, 8, size, size) for size in (16, 8, 4)]
    start = BalancedFeaturePyramid(8, 1, "non_local")(levels)
    for output, mean in zip(start, BalancedFeaturePyramid(8, 1, "")(levels), strict=True):
        torch.testing.assert_close(output, mean)


@pytest.mark.parametrize("refine", ["non_local", "conv"])
def test_every_weight_learns(refine):
    bfp, levels = random_bfp(refine)
    sum(output.square().mean() for output in bfp(levels)).backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in bfp.parameters())


def test_attention_is_float32_under_autocast():
    bfp, levels = random_bfp("non_local")
    with torch.autocast("cpu", torch.bfloat16):
        half = bfp(levels)
    for output, wanted in zip(half, bfp(levels), strict=True):
        assert torch.equal(output, wanted)


def random_bfp(refine):
    torch.manual_seed(0)
    bfp = BalancedFeaturePyramid(8, 1, refine)
    for parameter in bfp.parameters():
        nn.init.normal_(parameter)
    return bfp, [torch.randn(2, 8, size, size) for size in (16, 8, 4)]


@pytest.mark.parametrize(
    "builder",
    [PYRAMID, "build_vfnet_res2net_pafpn_backbone", "build_retinanet_resnet_fpn_backbone"],
)
def test_any_pyramid_keeps_its_levels_and_what_it_asks_of_images(builder):
    cfg = tiny_bfp(("BFP.BACKBONE", builder), ("RESNETS.DEPTH", 50), ("FPN.OUT_CHANNELS", 64))
    backbone = build_backbone(cfg)
    assert backbone.output_shape() == {
        f"p{level}": ShapeSpec(channels=64, stride=2**level) for level in range(3, 8)
    }
    assert backbone.size_divisibility == 32
    assert backbone.padding_constraints == backbone.pyramid.padding_constraints
    features = backbone.eval()(torch.zeros(1, 3, 128, 192))
    assert [tuple(f.shape[-2:]) for f in features.values()] == [
        *((16, 24), (8, 12), (4, 6), (2, 3), (1, 2))
    ]


def test_padding_constraints_are_handed_on():
    backbone = build_backbone(tiny_bfp())
    backbone.pyramid._square_pad = 512
    assert backbone.padding_constraints["square_size"] == 512


def test_vfnet_learns_on_it():
    torch.manual_seed(0)
    model = build_model(tiny_bfp()).train()
    losses = model([picture(1), picture(2)])
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    # What begins at 0 learns first, and then those behind it.
    refine = model.backbone.bfp.refine
    assert refine.conv_out.weight.grad.any() and not refine.theta.weight.grad.any()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    "override, message",
    [
        (("BFP.BACKBONE", ""), "MODEL.BFP.BACKBONE must be .* got ''"),
        (("BFP.BACKBONE", "build_no_backbone"), "MODEL.BFP.BACKBONE .*build_no_backbone"),
        (("BFP.BACKBONE", "build_bfp_backbone"), "name of another builder .*build_bfp_backbone"),
        (("BFP.BACKBONE", "build_resnet_backbone"), "the same channels, got .*res3"),
        (("BFP.REFINE_LEVEL", 5), "MODEL.BFP.REFINE_LEVEL must be 0 to 4.*p3.*p7, got 5"),
        (("BFP.REFINE_LEVEL", -1), "MODEL.BFP.REFINE_LEVEL .*got -1"),
        (("BFP.REFINE", "nonlocal"), "MODEL.BFP.REFINE must be .* got 'nonlocal'"),
    ],
)
def test_what_cannot_be_built_is_an_error(override, message):
    with pytest.raises(UserError, match=message):
        build_backbone(tiny_bfp(override, ("RESNETS.DEPTH", 50)))


@pytest.mark.parametrize("length, size, longest", [(25, 13, 3), (25, 7, 5), (7, 2, 5), (16, 4, 5)])
def test_an_adaptive_maximum_by_gathering_is_pytorchs(length, size, longest):
    x = torch.randn(2, 3, length, 5, generator=torch.Generator().manual_seed(0))
    expected = F.adaptive_max_pool2d(x, (size, 5))
    assert torch.equal(adaptive_maximum(x, size, 2, longest), expected)
