import pytest
import torch
from detectron2.layers import get_norm
from torch.nn import functional as F
from torchvision.ops import deform_conv2d

from vfnet.layers.deform_conv import (
    AnyDeviceDeformConv,
    AnyDeviceDeformConvV1,
    DeformConvV1WithOffset,
    DeformConvWithOffset,
)


def inputs(layer_channels=8, size=(9, 7), groups=1):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, layer_channels, *size, generator=generator).requires_grad_()
    offset = torch.randn(2, 18 * groups, *size, generator=generator).requires_grad_()
    mask = torch.rand(2, 9 * groups, *size, generator=generator).requires_grad_()
    return x, offset, mask


def test_whole_cell_offsets_shift_the_map():
    layer = AnyDeviceDeformConv(8, 4, 3, padding=1, bias=False)
    x, offset, mask = inputs()
    one_down = torch.zeros_like(offset)
    one_down[:, ::2] = 1.0  # dy of each tap
    shifted = F.pad(x, (0, 0, 0, 1))[:, :, 1:]
    actual = layer(x, one_down, torch.ones_like(mask))
    expected = F.conv2d(shifted, layer.weight, padding=1)
    # The first row reads row 0 of the map from above it, where `shifted` has none.
    torch.testing.assert_close(actual[:, :, 1:], expected[:, :, 1:], rtol=1e-5, atol=1e-5)


def test_the_mask_modulates_each_tap():
    layer = AnyDeviceDeformConv(8, 4, 3, padding=1, bias=False)
    x, offset, mask = inputs()
    centre_alone = torch.zeros_like(mask)
    centre_alone[:, 4] = 0.5
    actual = layer(x, torch.zeros_like(offset), centre_alone)
    expected = 0.5 * F.conv2d(x, layer.weight[:, :, 1:2, 1:2])
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("value", [float("inf"), float("nan"), -1e30])
def test_bad_offsets_give_finite_values_and_gradients(value):
    layer = AnyDeviceDeformConv(8, 4, 3, padding=1, bias=False, deformable_groups=2)
    x, offset, mask = inputs(groups=2)
    with torch.no_grad():
        offset[:, 3] = value
    out = layer(x, offset, mask)
    out.square().sum().backward()
    gradients = (x.grad, offset.grad, mask.grad, layer.weight.grad)
    assert all(tensor.isfinite().all() for tensor in (out, *gradients))


# Groups take torchvision's operation, the rest is gathered; two deformable groups as well.
@pytest.mark.parametrize(("groups", "deformable_groups"), [(1, 1), (4, 1), (1, 2), (4, 4)])
@pytest.mark.parametrize("stride", [1, 2])
def test_version_1_is_torchvisions_operation_and_the_modulated_layer_with_masks_of_1(
    stride, groups, deformable_groups
):
    torch.manual_seed(0)
    options = {"stride": stride, "padding": 1, "groups": groups, "bias": False}
    options["deformable_groups"] = deformable_groups
    layer = AnyDeviceDeformConvV1(8, 16, 3, **options)
    modulated = AnyDeviceDeformConv(8, 16, 3, **options)
    modulated.load_state_dict(layer.state_dict())
    x, offset, mask = inputs(groups=deformable_groups)
    offset = offset[..., ::stride, ::stride].detach().contiguous().requires_grad_()
    ones = torch.ones_like(mask[..., ::stride, ::stride])

    def values_and_gradients(out, weight):
        cotangent = torch.linspace(-1, 1, out.numel()).view_as(out)
        return out, *torch.autograd.grad((out * cotangent).sum(), (x, offset, weight))

    actual = values_and_gradients(layer(x, offset), layer.weight)
    assert actual[0].shape == (2, 16, *offset.shape[-2:])
    plain = deform_conv2d(x, offset, layer.weight, stride=stride, padding=1)
    expected = values_and_gradients(plain, layer.weight)
    with_masks = values_and_gradients(modulated(x, offset, ones), modulated.weight)
    for found, same, also in zip(actual, expected, with_masks):
        torch.testing.assert_close(found, same, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found, also, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layer_class", [AnyDeviceDeformConv, AnyDeviceDeformConvV1])
@pytest.mark.parametrize("norm", ["BN", "GN", ""])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_fixed_norm_is_folded_in_and_nothing_changes(norm, stride, layer_class):
    torch.manual_seed(0)
    layer = layer_class(
        8, 32, 3, stride=stride, padding=1, bias=False, norm=get_norm(norm, 32), activation=F.relu
    ).eval()
    for tensor in layer.norm.state_dict().values() if norm else ():
        if tensor.is_floating_point():
            torch.nn.init.uniform_(tensor, 0.5, 2.0)
    x, offset, mask = inputs(size=(9, 7))
    offset, mask = (tensor[..., ::stride, ::stride].contiguous() for tensor in (offset, mask))
    masks = (mask,) if layer_class is AnyDeviceDeformConv else ()
    plain = deform_conv2d(x, offset, layer.weight, None, stride, 1, 1, *masks)
    expected = F.relu(layer.norm(plain) if norm else plain)
    torch.testing.assert_close(layer(x, offset, *masks), expected, rtol=1e-5, atol=1e-5)


WITH_OFFSET = [DeformConvWithOffset, DeformConvV1WithOffset]


@pytest.mark.parametrize("layer_class", WITH_OFFSET)
def test_an_exported_graph_holds_torchvisions_operation(layer_class):
    layer = layer_class(8, 4)
    x, _, _ = inputs()
    traced = torch.jit.trace(layer, (x,), check_trace=False)
    assert "torchvision::deform_conv2d" in str(traced.inlined_graph)
    torch.testing.assert_close(traced(x), layer(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("layer_class", "share"), zip(WITH_OFFSET, (0.5, 1.0)))
def test_a_new_layer_with_offsets_is_a_plain_convolution_or_half_of_one(layer_class, share):
    layer = layer_class(8, 4)
    x, _, _ = inputs()
    torch.testing.assert_close(layer(x), share * F.conv2d(x, layer.weight, padding=1))
    assert layer.weight.abs().max() <= 72**-0.5
    assert layer.weight.abs().max() > 0.9 * 72**-0.5
    assert {name for name, _ in layer.named_parameters()} == {
        "weight",
        "offset.weight",
        "offset.bias",
    }


def test_version_1_moves_its_taps_by_its_offsets():
    layer = DeformConvV1WithOffset(8, 4, stride=2)
    torch.nn.init.normal_(layer.offset.weight, std=0.2)
    x, _, _ = inputs()
    offset = F.conv2d(x, layer.offset.weight, layer.offset.bias, stride=2, padding=1)
    assert offset.shape == (2, 18, 5, 4)
    expected = deform_conv2d(x, offset, layer.weight, stride=2, padding=1)
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layer_class", WITH_OFFSET)
def test_every_parameter_learns_under_autocast(layer_class):
    layer = layer_class(8, 4)
    torch.nn.init.normal_(layer.offset.weight, std=0.1)
    x, _, _ = inputs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        layer(x).square().sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.abs().max() > 0 for p in layer.parameters())
