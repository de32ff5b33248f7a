"""RepPoints' head: names and shapes of mmdet's, how it starts, and where its points lead."""

import pytest
import torch
from torch.nn import functional as F
from torchvision.ops import deform_conv2d

from tests.compare import relative_difference
from vfnet.checkpoint import convert_state_dict, to_mmdet_state_dict
from vfnet.modeling.heads.reppoints import RepPointsHead

C, P, K = 32, 16, 5


def head(norm="", **rest):
    settings = {
        "num_convs": 3,
        "deform_last_conv": False,
        "prior_prob": 0.01,
        "num_points": 9,
        "point_channels": P,
        "points_gradient_scale": 0.1,
        "moment_gradient_scale": 0.01,
        "transform": "moment",
        **rest,
    }
    sizes = {"in_channels": C, "conv_channels": C, "num_classes": K}
    return RepPointsHead(strides=[8, 16], norm=norm, **sizes, **settings)


def mmdet_names(norm):
    """As mmdet's RepPointsHead makes them."""
    shapes = {"bbox_head.moment_transfer": (2,)}
    for tower in ("cls_convs", "reg_convs"):
        for i in range(3):
            name = f"bbox_head.{tower}.{i}"
            shapes[f"{name}.conv.weight"] = (C, C, 3, 3)
            affine = [f"{name}.gn.weight", f"{name}.gn.bias"] if norm else [f"{name}.conv.bias"]
            shapes |= dict.fromkeys(affine, (C,))
    at_points = {"weight": (P, C, 3, 3)}
    for layer, parts in {
        "cls_conv": at_points,
        "cls_out": {"weight": (K, P, 1, 1), "bias": (K,)},
        "pts_init_conv": {"weight": (P, C, 3, 3), "bias": (P,)},
        "pts_init_out": {"weight": (18, P, 1, 1), "bias": (18,)},
        "pts_refine_conv": at_points,
        "pts_refine_out": {"weight": (18, P, 1, 1), "bias": (18,)},
    }.items():
        shapes |= {f"bbox_head.reppoints_{layer}.{part}": size for part, size in parts.items()}
    return shapes


@pytest.mark.parametrize("norm", ["", "GN"])
def test_names_and_shapes_are_mmdets_there_and_back(norm):
    ours = {f"head.{name}": value for name, value in head(norm).state_dict().items()}
    theirs = to_mmdet_state_dict(ours)
    assert {name: tuple(value.shape) for name, value in theirs.items()} == mmdet_names(norm)
    back = convert_state_dict(theirs)
    assert list(back) == list(ours) and all(back[name] is ours[name] for name in ours)


def test_it_starts_as_mmdets():
    torch.manual_seed(0)
    layer = head()
    assert layer.cls_pred.bias.sigmoid().tolist() == pytest.approx([0.01] * K)
    assert layer.moment_transfer.tolist() == [0, 0]
    for part in (layer.cls_points_conv, layer.refined_points_conv, layer.points_conv):
        assert part.weight.std().item() == pytest.approx(0.01, rel=0.05)


def test_scores_and_refined_points_are_read_at_the_initial_points():
    """Against torchvision, with points some cells wide."""
    torch.manual_seed(0)
    layer = head().eval()
    torch.nn.init.normal_(layer.points_pred.bias, std=3.0)
    feature = torch.randn(2, C, 7, 9)
    output = layer([feature])
    tap = torch.arange(9)
    own_place = torch.stack((tap // 3 - 1, tap % 3 - 1), dim=1).view(1, 18, 1, 1)
    offset = output.points[0] - own_place

    def read(conv, x):
        return F.relu(deform_conv2d(x, offset, conv.weight, padding=1))

    cls_feature, box_feature = layer.towers(feature)
    logits = layer.cls_pred(read(layer.cls_points_conv, cls_feature))
    movement = layer.refined_points_pred(read(layer.refined_points_conv, box_feature))
    assert relative_difference(output.logits[0], logits) < 1e-5
    assert relative_difference(output.refined_points[0], output.points[0] + movement) < 1e-5


def test_a_tenth_of_the_gradient_reaches_the_points_and_none_through_the_sum():
    torch.manual_seed(0)
    feature = torch.randn(1, C, 7, 9)
    gradients = []
    for share in (0.0, 0.1, 1.0):
        torch.manual_seed(1)
        layer = head(points_gradient_scale=share)
        output = layer([feature])
        (output.logits[0].sum() + output.refined_points[0].sum()).backward()
        gradients.append(layer.points_pred.bias.grad.clone())
    assert not gradients[0].any()
    assert gradients[2].abs().max() > 0
    torch.testing.assert_close(gradients[1], 0.1 * gradients[2])


def test_the_moments_factors_learn_by_a_hundredth():
    layer = head()
    layer([torch.randn(1, C, 4, 4)]).log_scales.sum().backward()
    assert layer.moment_transfer.grad.tolist() == pytest.approx([0.01, 0.01])


def test_the_last_convolution_of_the_towers_may_be_deformable():
    layer = head(norm="GN", deform_last_conv=True)
    assert layer.cls_tower[-1].bias is None
    assert layer.cls_tower[-1].offset.weight.shape == (27, C, 3, 3)
