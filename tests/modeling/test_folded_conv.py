"""A convolution with its batch norm folded in, against the plain layer."""

import pytest
import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d, get_norm
from torch import nn
from torch.nn import functional as F

from vfnet.modeling.folded_conv import FoldedConv2d, fold_batch_norms


def plain_conv(norm="BN", **kwargs):
    torch.manual_seed(0)
    conv = Conv2d(6, 8, 3, padding=1, bias=False, norm=get_norm(norm, 8), **kwargs)
    for name, tensor in conv.norm.state_dict().items():
        if tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.5, 2.0) if "bias" not in name else nn.init.normal_(tensor)
    return conv.eval()


@pytest.mark.parametrize("norm", ["BN", "FrozenBN"])
@pytest.mark.parametrize("kwargs", [{}, {"stride": 2}, {"groups": 2}, {"activation": F.relu}])
def test_without_gradients_it_computes_what_the_plain_layer_does(norm, kwargs):
    plain = plain_conv(norm, **kwargs)
    folded = FoldedConv2d.of(plain)
    x = torch.randn(2, 6, 9, 7)
    with torch.no_grad():
        torch.testing.assert_close(folded(x), plain(x), rtol=1e-5, atol=1e-5)


def test_names_and_parameters_are_the_plain_layers_own():
    plain = plain_conv()
    folded = FoldedConv2d.of(plain)
    assert list(folded.state_dict()) == list(plain.state_dict())
    assert all(a is b for a, b in zip(folded.parameters(), plain.parameters()))
    assert not any(tensor.is_meta for tensor in folded.state_dict().values())


def test_weights_that_change_count_at_once():
    plain = plain_conv()
    folded, x = FoldedConv2d.of(plain), torch.randn(1, 6, 5, 5)
    with torch.no_grad():
        before = folded(x)
        plain.weight.mul_(2)
        plain.norm.running_mean.zero_()
        after = folded(x)
        assert not torch.allclose(before, after)
        torch.testing.assert_close(after, plain(x), rtol=1e-5, atol=1e-5)


def test_with_gradients_and_with_moving_statistics_it_is_the_plain_layer():
    x = torch.randn(2, 6, 5, 5)
    plain = plain_conv()
    assert torch.equal(FoldedConv2d.of(plain)(x), plain(x))
    plain.train()
    with torch.no_grad():
        mean = plain.norm.running_mean.clone()
        FoldedConv2d.of(plain).train()(x)
    assert not torch.equal(plain.norm.running_mean, mean)


def test_all_convolutions_with_a_batch_norm_are_replaced_and_no_others():
    model = nn.Sequential(
        plain_conv(),
        plain_conv("FrozenBN"),
        Conv2d(8, 4, 1),
        Conv2d(4, 8, 1, norm=nn.GroupNorm(4, 8)),
    )
    norms = [conv.norm for conv in model]
    fold_batch_norms(model)
    assert [type(conv) for conv in model] == [FoldedConv2d, FoldedConv2d, Conv2d, Conv2d]
    assert [conv.norm for conv in model] == norms
    assert isinstance(model[1].norm, FrozenBatchNorm2d)


def test_a_frozen_norm_in_training_mode_is_called_so_that_its_hooks_see_what_it_gets():
    plain = plain_conv("FrozenBN")
    folded, seen, x = FoldedConv2d.of(plain), [], torch.randn(1, 6, 5, 5)
    plain.norm.register_forward_pre_hook(lambda norm, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        folded.eval()(x)
        assert seen == []
        folded.train()(x)
    torch.testing.assert_close(seen, [F.conv2d(x, plain.weight, padding=1)])
