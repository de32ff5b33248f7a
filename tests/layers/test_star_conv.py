import pytest
import torch
from torch.nn import functional as F
from torchvision.ops import deform_conv2d

from tests.compare import relative_difference
from vfnet.layers import gather_conv, grid_conv, star_conv
from vfnet.layers.star_conv import (
    StarDeformConv,
    offset_points,
    point_offsets,
    sampling_points,
    star_offsets,
    takes_grid,
)

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


@pytest.fixture(params=["gathering", "grid_sample"])
def sampling(request, monkeypatch):
    """Both ways to take the star's samples, on a CPU too."""
    monkeypatch.setattr(star_conv, "takes_grid", lambda x: request.param == "grid_sample")


both_ways = pytest.mark.usefixtures("sampling")


def random_layer(seed=0, channels=16, out_channels=8, size=(11, 13)):
    generator = torch.Generator().manual_seed(seed)
    layer = StarDeformConv(channels, out_channels)
    x = torch.randn(2, channels, *size, generator=generator).requires_grad_()
    offset = (torch.randn(2, 18, *size, generator=generator) * 4).requires_grad_()
    return layer, x, offset


def sampled_places(offsets):
    """Offsets (N, 18, H, W) -> absolute (y, x) of the nine samples in cells, (N, 9, 2, H, W)."""
    n, _, height, width = offsets.shape
    places = offsets.view(n, 9, 2, height, width).clone()
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    for tap in range(9):
        places[:, tap, 0] += y + tap // 3 - 1
        places[:, tap, 1] += x + tap % 3 - 1
    return places


def test_the_star_samples_centre_corners_and_sides_of_the_box():
    left, top, right, bottom = 12.0, 20.0, 36.0, 4.0
    distances = torch.tensor([left, top, right, bottom]).view(1, 4, 1, 1).expand(1, 4, 5, 6)
    places = sampled_places(star_offsets(distances, stride=4))[0, :, :, 2, 3] * 4  # pixels
    x, y = 3 * 4, 2 * 4
    expected = [
        [place_y, place_x]
        for place_y in (y - top, y, y + bottom)
        for place_x in (x - left, x, x + right)
    ]
    torch.testing.assert_close(places, torch.tensor(expected))


def test_points_are_sampled_where_they_lie_and_pass_their_share_of_the_gradient():
    points = torch.randn(1, 18, 5, 6, requires_grad=True)
    offsets = point_offsets(points, gradient_scale=0.25)
    places = sampled_places(offsets)[0]  # (9, 2, H, W), y and x
    cell = torch.tensor([2.0, 3.0])
    expected = points[0, :, 2, 3].view(9, 2) + cell
    torch.testing.assert_close(places[:, :, 2, 3], expected)
    offsets.sum().backward()
    torch.testing.assert_close(points.grad, torch.full_like(points, 0.25))


def test_points_come_back_from_their_offsets():
    points = torch.randn(2, 18, 5, 6)
    torch.testing.assert_close(offset_points(point_offsets(points)), points)


@pytest.mark.parity
def test_star_offsets_are_the_references(shared):
    reference = torch.load(shared / "reference" / "head.pt", weights_only=True)
    for level, (distances, expected) in enumerate(
        zip(reference["distances"], reference["star_offsets"])
    ):
        actual = star_offsets(distances, 8 * 2**level)
        assert (actual - expected).abs().max() <= 1e-6 * expected.abs().max()


def test_a_tenth_of_the_gradient_reaches_the_distances():
    distances = torch.rand(1, 4, 3, 3).add(8).requires_grad_()
    star_offsets(distances, stride=8).sum().backward()
    # Left and top displace three of nine points by -1/8 cell a pixel, right and bottom by 1/8.
    signs = torch.tensor([-1.0, -1.0, 1.0, 1.0]).view(1, 4, 1, 1)
    torch.testing.assert_close(distances.grad, (signs * 3 / 8 * 0.1).expand(1, 4, 3, 3))


def test_offsets_are_float32_and_a_huge_box_does_not_overflow_them():
    offsets = star_offsets(torch.full((1, 4, 2, 2), 6e4, dtype=torch.float16), stride=8)
    assert offsets.dtype == torch.float32
    assert offsets.isfinite().all()


@both_ways
@pytest.mark.parametrize("locations", [150, 65536], ids=["in parts", "whole"])
def test_the_layer_equals_torchvisions_kernel_with_all_gradients(monkeypatch, locations):
    for module in (gather_conv, grid_conv):
        monkeypatch.setattr(module, "LOCATIONS_AT_ONCE_ELSEWHERE", locations)
    layer, x, offset = random_layer()
    inputs = (x, offset, layer.weight)
    out = layer(x, offset)
    expected = deform_conv2d(x, offset, layer.weight, padding=1)
    # `grid_sample` rounds a place twice, at 1e-6 of a map this small.
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=2e-5)
    weight = torch.randn_like(expected)
    for actual, wanted in zip(
        torch.autograd.grad(out, inputs, weight), torch.autograd.grad(expected, inputs, weight)
    ):
        assert (actual - wanted).abs().max() <= 2e-5 * wanted.abs().max()


@both_ways
def test_zero_offsets_are_a_plain_convolution():
    layer, x, offset = random_layer()
    plain = F.conv2d(x, layer.weight, padding=1)
    torch.testing.assert_close(layer(x, torch.zeros_like(offset)), plain, rtol=1e-5, atol=1e-5)


def test_shared_points_give_the_same():
    layer, x, offset = random_layer()
    assert torch.equal(layer(x, offset, sampling_points(offset)), layer(x, offset))


@both_ways
def test_a_batch_without_a_picture_gives_one():
    layer, x, offset = random_layer()
    out = layer(x[:0], offset[:0])
    assert out.shape == (0, 8, 11, 13)
    out.sum().backward()
    assert (layer.weight.grad == 0).all()


@both_ways
def test_samples_outside_read_zero():
    layer, x, offset = random_layer()
    assert layer(x, torch.full_like(offset, 1000.0)).abs().max() == 0


@both_ways
@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan"), 1e30, -1e12])
def test_infinite_and_huge_offsets_give_finite_values_and_gradients(value):
    layer, x, offset = random_layer()
    with torch.no_grad():
        offset[:, ::5, ::2] = value
    out = layer(x, offset)
    out.square().sum().backward()
    tensors = (out, x.grad, offset.grad, layer.weight.grad)
    assert all(tensor.isfinite().all() for tensor in tensors)
    assert (offset.grad[:, ::5, ::2] == 0).all()
    untouched = [channel for channel in range(18) if channel % 5]
    assert offset.grad[:, untouched].abs().max() > 0


@both_ways
def test_infinite_distances_give_finite_values_and_gradients():
    layer, x, _ = random_layer()
    distances = torch.rand(2, 4, 11, 13) * 50
    distances[:, 1, ::3] = float("inf")
    distances.requires_grad_()
    layer(x, star_offsets(distances, 8)).sum().backward()
    assert distances.grad.isfinite().all()


@both_ways
def test_autocast_keeps_the_samples_in_place():
    layer, x, offset = random_layer()
    exact = layer(x, offset)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = layer(x, offset)
    assert (half.float() - exact).abs().max() < 0.02 * exact.abs().max()


def test_the_layer_has_the_weight_alone():
    layer = StarDeformConv(6, 4)
    assert {name: tuple(p.shape) for name, p in layer.named_parameters()} == {
        "weight": (4, 6, 3, 3)
    }


class OnCuda(torch.Tensor):
    """Says that it lies on a GPU."""

    is_cuda = True


@pytest.mark.parametrize(
    "module, asked",
    [(torch.compiler, "is_compiling"), (torch, "are_deterministic_algorithms_enabled")],
)
def test_grid_sample_is_a_gpus_way_outside_graphs(monkeypatch, module, asked):
    x = torch.zeros(1, 2, 3, 3)
    assert not takes_grid(x)
    assert takes_grid(x.as_subclass(OnCuda))
    monkeypatch.setattr(module, asked, lambda: True)
    assert not takes_grid(x.as_subclass(OnCuda))


@needs_cuda
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_on_cuda_trains(dtype):
    layer, x, offset = random_layer()
    layer = layer.cuda()
    x, offset = (tensor.detach().cuda().requires_grad_() for tensor in (x, offset))
    exact = layer(x, offset)
    with torch.autocast("cuda", dtype=dtype):
        half = layer(x, offset)
    assert relative_difference(half.float(), exact) < 0.02
    half.float().square().sum().backward()
    assert all(t.grad.isfinite().all() for t in (x, offset, layer.weight))
