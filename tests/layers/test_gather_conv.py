"""Gathering in parts against the same sum taken at once by autograd."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torchvision.ops import deform_conv2d

from tests.compare import relative_difference
from vfnet.layers import gather_conv
from vfnet.layers.gather_conv import gather_convolution, sampling_points


def random_inputs(n=2, channels=6, out_channels=5, height=7, width=9):
    generator = torch.Generator().manual_seed(0)
    shapes = ((n, channels, height, width), (n, 18, height, width), (out_channels, channels, 3, 3))
    scales = (1, 4, 0.1)
    return [
        (torch.randn(shape, generator=generator) * scale).requires_grad_()
        for shape, scale in zip(shapes, scales)
    ]


def at_once(x, points, weight):
    """Four neighbours by plain indexing, summed with their weights, times the kernel."""
    n, channels, height, width = x.shape
    table = x.permute(0, 2, 3, 1).reshape(-1, channels)
    samples = (table[points.rows] * points.weights[..., None]).sum(dim=2)  # (L, 9, C)
    out = torch.einsum("ltc,oct->lo", samples, weight.flatten(2))
    return out.view(n, height, width, -1).permute(0, 3, 1, 2)


@pytest.mark.parametrize("locations", [1, 40, 126, 1000])  # of 126
def test_any_parts_give_values_and_gradients_of_the_whole(monkeypatch, locations):
    monkeypatch.setattr(gather_conv, "LOCATIONS_AT_ONCE", locations)
    x, offset, weight = inputs = random_inputs()
    points = sampling_points(offset)
    out, expected = gather_convolution(x, points, weight), at_once(x, points, weight)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    for actual, wanted in zip(
        torch.autograd.grad(out, inputs, grad, retain_graph=True),
        torch.autograd.grad(expected, inputs, grad),
    ):
        assert relative_difference(actual, wanted) < 1e-5


@pytest.mark.parametrize(("stride", "height", "width"), [(1, 7, 9), (2, 7, 9), (2, 8, 6)])
def test_a_modulated_convolution_with_stride_is_torchvisions(stride, height, width):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 6, height, width, generator=generator)
    size = (-(-height // stride), -(-width // stride))
    offset = 2 * torch.randn(2, 18, *size, generator=generator)
    mask = torch.rand(2, 9, *size, generator=generator)
    weight = 0.1 * torch.randn(5, 6, 3, 3, generator=generator)
    inputs = [tensor.requires_grad_() for tensor in (x, offset, mask, weight)]
    out = gather_convolution(x, sampling_points(offset, mask, stride, (height, width)), weight)
    expected = deform_conv2d(x, offset, weight, stride=stride, padding=1, mask=mask)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)
    grad = torch.randn(out.shape, generator=generator)
    for actual, wanted in zip(
        torch.autograd.grad(out, inputs, grad), torch.autograd.grad(expected, inputs, grad)
    ):
        assert relative_difference(actual, wanted) < 1e-5


def test_one_set_of_points_serves_two_convolutions():
    x, offset, weight = random_inputs()
    points = sampling_points(offset)
    both = gather_convolution(x, points, weight) + gather_convolution(2 * x, points, weight)
    once = gather_convolution(3 * x, points, weight)
    grads = [torch.autograd.grad(out.sum(), offset, retain_graph=True)[0] for out in (both, once)]
    assert relative_difference(*grads) < 1e-5


def test_nothing_nine_times_as_large_as_the_map_is_kept_for_the_backward_pass():
    x, offset, weight = random_inputs(channels=64)
    points = sampling_points(offset)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()), lambda t: t):
        gather_convolution(x, points, weight)
    assert max(kept) <= x.numel()


class Largest(TorchDispatchMode):
    """Notes the largest tensor that any operation returns."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        outputs = [x for x in tree_leaves(out) if isinstance(x, torch.Tensor)]
        if not function.is_view:
            self.numel = max([self.numel, *(x.numel() for x in outputs)])
        return out


def test_backward_holds_no_samples_of_more_than_a_part(monkeypatch):
    monkeypatch.setattr(gather_conv, "LOCATIONS_AT_ONCE", 8)
    x, offset, weight = random_inputs(n=4, channels=64)
    out = gather_convolution(x, sampling_points(offset), weight).sum()
    with Largest() as seen:
        out.backward()
    # The gradient of x is the largest: samples of 8 times BACKWARD_FACTOR locations are 9/15 of it.
    assert seen.numel == x.numel()


def test_under_autocast_the_product_is_in_its_precision_and_the_samples_are_not():
    x, offset, weight = inputs = random_inputs(channels=32)
    points = sampling_points(offset)
    exact = at_once(x, points, weight)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = gather_convolution(x, points, weight)
    assert out.dtype == torch.bfloat16
    assert relative_difference(out.float(), exact) < 0.01
    grads = torch.autograd.grad(out.float().square().sum(), inputs, retain_graph=True)
    wanted = torch.autograd.grad(exact.square().sum(), inputs)
    for actual, expected in zip(grads, wanted):
        assert actual.dtype == torch.float32
        assert relative_difference(actual, expected) < 0.02


def test_an_exported_model_gathers_at_once():
    x, offset, weight = (tensor.detach() for tensor in random_inputs())
    points = sampling_points(offset)
    traced = torch.jit.trace(
        lambda x: gather_convolution(x, points, weight), (x,), check_trace=False
    )
    assert str(traced.graph).count("aten::embedding_bag") == 1
    torch.testing.assert_close(traced(x), gather_convolution(x, points, weight))
