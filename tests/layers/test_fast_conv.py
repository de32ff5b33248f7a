"""Detectron2's convolution in its fast form, against the plain layer."""

import copy

import pytest
import torch
from detectron2.layers import Conv2d, get_norm
from torch import nn
from torch.nn import functional as F

from vfnet.layers.fast_conv import FastConv2d, use_fast_convolutions


def plain_conv(norm="BN", **kwargs):
    torch.manual_seed(0)
    conv = Conv2d(6, 8, 3, padding=1, bias=norm == "", norm=get_norm(norm, 8), **kwargs)
    for name, tensor in conv.norm.state_dict().items() if conv.norm else ():
        if tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.5, 2.0) if "bias" not in name else nn.init.normal_(tensor)
    return conv.eval()


def fast(plain):
    conv = copy.deepcopy(plain)
    use_fast_convolutions(conv)
    assert type(conv) is FastConv2d
    return conv


@pytest.mark.parametrize("norm", ["BN", "FrozenBN", ""])
@pytest.mark.parametrize("kwargs", [{}, {"stride": 2}, {"groups": 2}, {"activation": F.relu}])
def test_values_and_gradients_are_the_plain_layers(norm, kwargs):
    plain = plain_conv(norm, **kwargs)
    folded = fast(plain)
    x = torch.randn(2, 6, 9, 7)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    outputs = [conv(values) for conv, values in zip((folded, plain), inputs)]
    torch.testing.assert_close(*outputs, rtol=1e-5, atol=1e-5)
    weight = torch.randn_like(outputs[0])
    actual, expected = (
        torch.autograd.grad(out, [values, *conv.parameters()], weight)
        for out, values, conv in zip(outputs, inputs, (folded, plain))
    )
    assert len(actual) == len(list(plain.parameters())) + 1
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def test_a_fixed_norm_holds_no_map_for_the_backward_pass():
    saved = []
    x = torch.randn(2, 6, 9, 7).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.shape), lambda t: t):
        fast(plain_conv())(x)
    assert saved.count(x.shape) == 1
    assert (2, 8, 9, 7) not in saved


def test_weights_that_change_count_at_once():
    plain = plain_conv()
    folded, x = fast(plain), torch.randn(1, 6, 5, 5)
    with torch.no_grad():
        before = folded(x)
        for conv in (plain, folded):
            conv.weight.mul_(2)
            conv.norm.running_mean.zero_()
        after = folded(x)
        assert not torch.allclose(before, after)
        torch.testing.assert_close(after, plain(x), rtol=1e-5, atol=1e-5)


def test_with_moving_statistics_it_is_the_plain_layer():
    x = torch.randn(2, 6, 5, 5)
    plain = plain_conv().train()
    folded = fast(plain)
    assert torch.equal(folded(x), plain(x))
    assert torch.equal(folded.norm.running_mean, plain.norm.running_mean)
    assert not torch.equal(folded.norm.running_mean, plain_conv().norm.running_mean)


def test_all_of_detectron2s_convolutions_are_made_fast_in_place_and_no_others():
    model = nn.Sequential(
        plain_conv(),
        plain_conv("FrozenBN"),
        Conv2d(8, 4, 1),
        Conv2d(4, 8, 1, norm=nn.GroupNorm(4, 8)),
        nn.Conv2d(8, 8, 3),
    )
    layers, state = list(model), model.state_dict()
    use_fast_convolutions(model)
    assert [type(layer) for layer in model] == [FastConv2d] * 4 + [nn.Conv2d]
    assert all(a is b for a, b in zip(model, layers))
    assert model.state_dict().keys() == state.keys()


def test_a_norm_of_another_kind_follows_the_convolution():
    conv = Conv2d(4, 8, 1, norm=nn.GroupNorm(4, 8), activation=F.relu)
    x = torch.randn(2, 4, 5, 5)
    torch.testing.assert_close(fast(conv)(x), conv(x))


def test_a_frozen_norm_in_training_mode_is_called_so_that_its_hooks_see_what_it_gets():
    plain = plain_conv("FrozenBN")
    folded, seen, x = fast(plain), [], torch.randn(1, 6, 5, 5)
    folded.norm.register_forward_pre_hook(lambda norm, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        folded.eval()(x)
        assert seen == []
        folded.train()(x)
    torch.testing.assert_close(seen, [F.conv2d(x, plain.weight, padding=1)])


def test_no_images_give_no_maps():
    assert fast(plain_conv())(torch.zeros(0, 6, 5, 4)).shape == (0, 8, 5, 4)
