"""FoveaBox's head: names and shapes of mmdet's, its start, and what the aligned form computes."""

import pytest
import torch
from torch.nn import functional as F
from torchvision.ops import deform_conv2d

from tests.compare import relative_difference
from vfnet.checkpoint import convert_state_dict, to_mmdet_state_dict
from vfnet.modeling.heads.foveabox import BoxAlignment, FoveaBoxHead

C, K = 32, 5


def head(align=False, norm="", **rest):
    settings = {"num_convs": 4, "deform_last_conv": False, "prior_prob": 0.01, **rest}
    sizes = {"in_channels": C, "conv_channels": C, "num_classes": K}
    return FoveaBoxHead(strides=[8, 16], align=align, norm=norm, **sizes, **settings)


def layers(prefix, count, norm, channels=(C,), kernels=(3,)):
    """Names and shapes of a list of mmdet's `ConvModule`."""
    shapes, inputs = {}, C
    for i in range(count):
        outputs, kernel = channels[min(i, len(channels) - 1)], kernels[min(i, len(kernels) - 1)]
        name = f"bbox_head.{prefix}.{i}"
        shapes[f"{name}.conv.weight"] = (outputs, inputs, kernel, kernel)
        if norm:
            shapes |= {f"{name}.gn.{part}": (outputs,) for part in ("weight", "bias")}
        else:
            shapes[f"{name}.conv.bias"] = (outputs,)
        inputs = outputs
    return shapes


def mmdet_names(align, norm):
    """As mmdet's FoveaHead and FeatureAlign make them."""
    width = 4 * C if align else C
    if align:
        cls_tower = layers("cls_convs", 2, norm, (4 * C, 4 * C), (3, 1))
        cls_tower |= {
            "bbox_head.feature_adaption.conv_offset.weight": (4 * 18, 4, 1, 1),
            "bbox_head.feature_adaption.conv_adaption.weight": (C, C, 3, 3),
        }
    else:
        cls_tower = layers("cls_convs", 4, norm)
    return {
        **cls_tower,
        **layers("reg_convs", 4, norm),
        "bbox_head.conv_cls.weight": (K, width, 3, 3),
        "bbox_head.conv_cls.bias": (K,),
        "bbox_head.conv_reg.weight": (4, C, 3, 3),
        "bbox_head.conv_reg.bias": (4,),
    }


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("norm", ["", "GN"])
def test_names_and_shapes_are_mmdets_there_and_back(align, norm):
    ours = {f"head.{name}": value for name, value in head(align, norm).state_dict().items()}
    theirs = to_mmdet_state_dict(ours)
    assert {name: tuple(value.shape) for name, value in theirs.items()} == mmdet_names(align, norm)
    back = convert_state_dict(theirs)
    assert list(back) == list(ours) and all(back[name] is ours[name] for name in ours)


def test_the_names_of_mmdet_1_are_read_too():
    old = {f"bbox_head.fovea_{layer}.bias": torch.zeros(1) for layer in ("cls", "reg")}
    assert list(convert_state_dict(old)) == ["head.cls_pred.bias", "head.distance_pred.bias"]


def test_it_starts_as_mmdets():
    torch.manual_seed(0)
    layer = head(align=True)
    assert layer.cls_pred.bias.sigmoid().tolist() == pytest.approx([0.01] * K)
    assert layer.align.offset.weight.std().item() == pytest.approx(0.1, rel=0.2)
    for weight in (layer.align.weight, layer.cls_tower[1].weight, layer.box_tower[0].weight):
        assert weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert not layer.box_tower[0].bias.any()


def test_aligned_features_are_read_where_the_distances_say():
    """Against torchvision: offsets of four groups of channels, by a product with the distances."""
    torch.manual_seed(0)
    layer = BoxAlignment(C, C)
    x, distances = torch.randn(2, C, 7, 9), torch.rand(2, 4, 7, 9) * 10
    offset = torch.einsum("ok,nkhw->nohw", layer.offset.weight[:, :, 0, 0], distances)
    expected = F.relu(deform_conv2d(x, offset, layer.weight, padding=1))
    assert relative_difference(layer(x, distances), expected) < 1e-5
    # Channels of one group move with their own offsets alone.
    moved = offset.clone()
    moved[:, 18:] += 5
    only_first = layer.weight.clone()
    only_first[:, C // 4 :] = 0
    same = [deform_conv2d(x, o, only_first, padding=1) for o in (offset, moved)]
    assert torch.equal(*same)


def test_the_aligned_form_reads_classes_by_the_predicted_box():
    torch.manual_seed(0)
    layer = head(align=True).eval()
    feature = torch.randn(1, C, 8, 8)
    output = layer([feature])
    aligned = layer.align(feature, output.log_distances[0].exp())
    expected = layer.cls_pred(layer.cls_tower(aligned))
    assert torch.equal(output.logits[0], expected)
    # The classification pulls at the box through the offsets, as in mmdet.
    output.logits[0].square().sum().backward()
    assert layer.distance_pred.weight.grad.abs().max() > 0


def test_a_diverging_box_leaves_the_aligned_features_finite():
    layer = head(align=True)
    torch.nn.init.constant_(layer.distance_pred.bias, 1e6)
    output = layer([torch.randn(1, C, 8, 8, requires_grad=True)])
    assert output.logits[0].isfinite().all()
    output.logits[0].sum().backward()
    assert all(p.grad.isfinite().all() for p in layer.parameters() if p.grad is not None)


def test_the_last_convolution_of_the_towers_may_be_deformable():
    plain, aligned = head(deform_last_conv=True), head(align=True, deform_last_conv=True)
    for layer in (plain.cls_tower[-1], plain.box_tower[-1], aligned.box_tower[-1]):
        assert layer.offset.weight.shape == (27, C, 3, 3)
    assert not hasattr(aligned.cls_tower[-1], "offset")  # a 1x1 convolution
    names = to_mmdet_state_dict({f"head.{k}": v for k, v in plain.state_dict().items()})
    assert "bbox_head.cls_convs.3.conv.conv_offset.bias" in names
    assert "bbox_head.cls_convs.3.conv.bias" in names  # in the place of a norm, as in mmdet
