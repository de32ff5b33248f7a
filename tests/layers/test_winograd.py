"""Winograd's convolution against PyTorch's in float64."""

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from vfnet.layers import winograd
from vfnet.layers.winograd import (
    conv2d,
    winograd_convolution,
    winograd_pays,
)

DENSE = ((1, 1), (1, 1), (1, 1), 1)
LAYOUTS = [torch.contiguous_format, torch.channels_last]


def random_convolution(n=2, channels=7, out_channels=5, height=13, width=18, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    shapes = (n, channels, height, width), (out_channels, channels, 3, 3), (out_channels,)
    return [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]


def exact(x, weight, bias=None):
    return F.conv2d(x.double(), weight.double(), None if bias is None else bias.double(), padding=1)


def error(actual, expected):
    """The largest difference, in standard deviations of what is expected."""
    assert actual.shape == expected.shape
    return ((actual - expected).abs().max() / expected.std()).item()


# Whole tiles and tiles that stick out below, to the right, or both; a map smaller than a tile.
@pytest.mark.parametrize("height, width", [(8, 12), (13, 12), (8, 18), (13, 18), (1, 3), (5, 1)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_computes_a_convolution(height, width, layout):
    x, weight, bias = random_convolution(height=height, width=width)
    out = winograd_convolution(x.contiguous(memory_format=layout), weight, bias)
    assert error(out, exact(x, weight, bias)) < 2e-5


@pytest.mark.parametrize("at_once", [1, 4, 9, 1000])
def test_tiles_computed_together_or_apart_give_the_same(monkeypatch, at_once):
    x, weight, _ = random_convolution(height=29, width=15)
    monkeypatch.setattr(winograd, "TILES_AT_ONCE", at_once)
    assert error(winograd_convolution(x, weight), exact(x, weight)) < 2e-5


def test_activations_far_from_zero_lose_no_more_than_a_few_digits():
    x, weight, _ = random_convolution(channels=64, out_channels=16)
    x = x.relu() * 30 + 100
    expected = exact(x, weight)
    plain = (F.conv2d(x, weight, padding=1) - expected).abs().max()
    assert (winograd_convolution(x, weight) - expected).abs().max() < 30 * plain


def test_it_takes_a_quarter_of_the_multiplications():
    x, weight, _ = random_convolution(1, 128, 128, 64, 64)
    with FlopCounterMode(display=False) as plain:
        F.conv2d(x, weight, padding=1)
    with FlopCounterMode(display=False) as fast:
        winograd_convolution(x, weight)
    products = fast.get_flop_counts()["Global"][torch.ops.aten.bmm]
    assert products * 4 == plain.get_total_flops()
    assert fast.get_total_flops() < plain.get_total_flops() / 2  # transforms are products too


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_activation_may_follow_in_place(monkeypatch, layout):
    monkeypatch.setattr(winograd, "winograd_pays", lambda x, weight: True)
    x, weight, bias = random_convolution(height=8, width=12)
    out = F.relu_(conv2d(x.contiguous(memory_format=layout), weight, bias, *DENSE))
    assert error(out, exact(x, weight, bias).relu()) < 1e-4


@pytest.mark.parametrize("learns", ["x", "weight"])
def test_what_takes_gradients_stays_pytorchs(learns):
    x, weight, _ = random_convolution(1, 128, 128, 64, 64)
    (x if learns == "x" else weight).requires_grad_()
    assert not winograd_pays(x, weight)
    with torch.no_grad():
        assert winograd_pays(x, weight)


def test_it_is_taken_for_large_float32_maps_of_many_channels_alone():
    x, weight, _ = random_convolution(1, 128, 128, 64, 64)
    assert winograd_pays(x, weight)
    assert not winograd_pays(x[:, :, :32, :32], weight)  # 64 tiles
    assert winograd_pays(x[:, :, :32, :32].expand(2, -1, -1, -1), weight)
    assert not winograd_pays(x[:, :, :28, :28].expand(9, -1, -1, -1), weight)  # 49 of an image
    assert not winograd_pays(x.to("meta"), weight.to("meta"))
    assert not winograd_pays(x[:, :64], weight[:, :64])
    assert not winograd_pays(x, weight[:64])
    assert not winograd_pays(x, weight[..., :1, :1])
    assert not winograd_pays(x.bfloat16(), weight.bfloat16())
    assert not winograd_pays(x.double(), weight.double())
    with torch.autocast("cpu", torch.bfloat16):
        assert not winograd_pays(x, weight)


@pytest.mark.parametrize(
    "arguments",
    [((2, 2), (1, 1), (1, 1), 1), ((1, 1), (0, 0), (1, 1), 1), ((1, 1), (2, 2), (2, 2), 1)],
)
def test_other_convolutions_stay_pytorchs(arguments):
    x, weight, bias = random_convolution(1, 128, 128, 64, 64)
    assert torch.equal(conv2d(x, weight, bias, *arguments), F.conv2d(x, weight, bias, *arguments))


def test_grouped_convolutions_stay_pytorchs():
    x, weight, bias = random_convolution(1, 256, 256, 64, 64)
    arguments = ((1, 1), (1, 1), (1, 1), 2)
    grouped = weight[:, :128]
    assert torch.equal(conv2d(x, grouped, bias, *arguments), F.conv2d(x, grouped, bias, *arguments))


def test_an_exported_model_holds_the_plain_convolution():
    x, weight, bias = random_convolution(1, 128, 128, 64, 64)
    traced = torch.jit.trace(lambda x: conv2d(x, weight, bias, *DENSE), (x,), check_trace=False)
    assert "convolution" in str(traced.graph) and "bmm" not in str(traced.graph)
