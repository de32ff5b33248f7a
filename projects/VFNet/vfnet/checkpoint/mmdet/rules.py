"""The one table of parameter names: mmdet's VFNet and this project's, side by side.

mmdet 2.x (the official implementation's base) and 3.x use the same names. A rule reads in both
directions; its fields, in braces, stand for what both names have in common.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Rule(NamedTuple):
    """Two templates for the names of one kind of parameter."""

    mmdet: str
    ours: str


_FIELDS = {
    "block": r"\d+",
    "conv": "[123]",
    "index": r"\d+",
    "affine": "weight|bias",
    "norm": "weight|bias|running_mean|running_var",
}


def pattern(template: str) -> re.Pattern[str]:
    """The expression for all names of a template, with a group for each field."""
    # Texts and fields in turn.
    parts = re.split(r"\{(\w+)\}", template)
    return re.compile(
        "".join(
            f"(?P<{part}>{_FIELDS[part]})" if index % 2 else re.escape(part)
            for index, part in enumerate(parts)
        )
    )


def rules(is_res2net: bool, is_pafpn: bool) -> list[Rule]:
    """The rules for one kind of backbone (ResNet and ResNeXt, or Res2Net) and of neck."""
    fpn = "backbone.fpn" if is_pafpn else "backbone"
    bottom_up = f"{fpn}.bottom_up"
    stem = _res2net_stem(bottom_up) if is_res2net else _resnet_stem(bottom_up)
    stages = [rule for layer in (1, 2, 3, 4) for rule in _stage(bottom_up, layer, is_res2net)]
    if is_pafpn:
        neck = [*_fpn(fpn, "backbone.p6", "backbone.p7"), *_pafpn()]
    else:
        neck = _fpn(fpn, "backbone.top_block.p6", "backbone.top_block.p7")
    return [*stem, *stages, *neck, *_HEAD]


def _resnet_stem(bottom_up: str) -> list[Rule]:
    return [
        Rule("backbone.conv1.weight", f"{bottom_up}.stem.conv1.weight"),
        Rule("backbone.bn1.{norm}", f"{bottom_up}.stem.conv1.norm.{{norm}}"),
    ]


def _res2net_stem(bottom_up: str) -> list[Rule]:
    """Three convolutions, each with its norm and an activation, numbered as one sequence."""
    stem = []
    for index in range(3):
        ours = f"{bottom_up}.stem.conv{index + 1}"
        stem.append(Rule(f"backbone.stem.{3 * index}.weight", f"{ours}.weight"))
        stem.append(Rule(f"backbone.stem.{3 * index + 1}.{{norm}}", f"{ours}.norm.{{norm}}"))
    return stem


def _stage(bottom_up: str, layer: int, is_res2net: bool) -> list[Rule]:
    """One stage; mmdet counts stages from 1, Detectron2 from 2.

    Before the shortcut's convolution Res2Net has a pooling, which takes a number.
    """
    mmdet, ours = f"backbone.layer{layer}.{{block}}", f"{bottom_up}.res{layer + 1}.{{block}}"
    shortcut = 1 if is_res2net else 0
    return [
        Rule(f"{mmdet}.conv{{conv}}.weight", f"{ours}.conv{{conv}}.weight"),
        Rule(f"{mmdet}.bn{{conv}}.{{norm}}", f"{ours}.conv{{conv}}.norm.{{norm}}"),
        Rule(f"{mmdet}.downsample.{shortcut}.weight", f"{ours}.shortcut.weight"),
        Rule(f"{mmdet}.downsample.{shortcut + 1}.{{norm}}", f"{ours}.shortcut.norm.{{norm}}"),
        Rule(f"{mmdet}.conv2.conv_offset.{{affine}}", f"{ours}.conv2_offset.{{affine}}"),
        Rule(f"{mmdet}.convs.{{index}}.weight", f"{ours}.convs.{{index}}.weight"),
        Rule(f"{mmdet}.bns.{{index}}.{{norm}}", f"{ours}.convs.{{index}}.norm.{{norm}}"),
        Rule(
            f"{mmdet}.convs.{{index}}.conv_offset.{{affine}}",
            f"{ours}.convs.{{index}}.offset.{{affine}}",
        ),
    ]


def _fpn(fpn: str, p6: str, p7: str) -> list[Rule]:
    """A pyramid: convolution i of P3-P5 is number i + 3; P6 and P7 follow."""
    fpn_rules = []
    for index in range(3):
        lateral = f"neck.lateral_convs.{index}.conv.{{affine}}"
        fpn_rules.append(Rule(lateral, f"{fpn}.fpn_lateral{index + 3}.{{affine}}"))
        fpn_rules += _neck_conv(f"neck.fpn_convs.{index}", f"{fpn}.fpn_output{index + 3}")
    for index, ours in ((3, p6), (4, p7)):
        fpn_rules += _neck_conv(f"neck.fpn_convs.{index}", ours)
    return fpn_rules


def _pafpn() -> list[Rule]:
    """What VFNet-X's neck has beside its pyramid."""
    return [
        *_neck_conv("neck.downsample_convs.{index}", "backbone.downsample.{index}"),
        *_neck_conv("neck.pafpn_convs.{index}", "backbone.output.{index}"),
    ]


def _neck_conv(mmdet: str, ours: str) -> list[Rule]:
    """A convolution with bias or GroupNorm and, where it is deformable, an offset branch."""
    return [
        Rule(f"{mmdet}.conv.{{affine}}", f"{ours}.{{affine}}"),
        Rule(f"{mmdet}.gn.{{affine}}", f"{ours}.norm.{{affine}}"),
        Rule(f"{mmdet}.conv.conv_offset.{{affine}}", f"{ours}.offset.{{affine}}"),
    ]


def _head_conv(mmdet: str, ours: str) -> list[Rule]:
    """A convolution with GroupNorm and, where it is deformable, an offset branch."""
    mmdet, ours = f"bbox_head.{mmdet}", f"head.{ours}"
    return [
        Rule(f"{mmdet}.conv.weight", f"{ours}.weight"),
        Rule(f"{mmdet}.gn.{{affine}}", f"{ours}.norm.{{affine}}"),
        Rule(f"{mmdet}.conv.conv_offset.{{affine}}", f"{ours}.offset.{{affine}}"),
    ]


_HEAD = [
    *_head_conv("cls_convs.{index}", "cls_tower.{index}"),
    *_head_conv("reg_convs.{index}", "box_tower.{index}"),
    *_head_conv("vfnet_reg_conv", "box_conv"),
    Rule("bbox_head.vfnet_reg.{affine}", "head.box_pred.{affine}"),
    Rule("bbox_head.scales.{index}.scale", "head.box_scales.{index}"),
    Rule("bbox_head.vfnet_reg_refine_dconv.weight", "head.box_star.weight"),
    Rule("bbox_head.vfnet_reg_refine.{affine}", "head.refine_pred.{affine}"),
    Rule("bbox_head.scales_refine.{index}.scale", "head.refine_scales.{index}"),
    Rule("bbox_head.vfnet_cls_dconv.weight", "head.cls_star.weight"),
    Rule("bbox_head.vfnet_cls.{affine}", "head.cls_pred.{affine}"),
    # The raw head has a plain convolution in the star's place.
    *_head_conv("vfnet_cls_conv", "cls_conv"),
]
