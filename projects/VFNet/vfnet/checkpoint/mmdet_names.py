"""Parameter names of mmdet's VFNet -> names of this project's, by one table.

mmdet 2.x (the official implementation's base) and 3.x use the same names. No tensor changes: both
sides keep convolutions as (out, in, height, width).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

from ..errors import UserError

_AFFINE = r"(weight|bias)"
_NORM = r"(weight|bias|running_mean|running_var)"

# (pattern of a whole mmdet name, our name); \1, \2 ... are the pattern's groups.
Rule = tuple[str, str]


def _stem_rules(bottom_up: str) -> list[Rule]:
    """Rules of ResNet's stem, and of Res2Net's three convolutions, each before its norm."""
    rules = [
        (r"backbone\.conv1\.weight", rf"{bottom_up}.stem.conv1.weight"),
        (rf"backbone\.bn1\.{_NORM}", rf"{bottom_up}.stem.conv1.norm.\1"),
    ]
    for index in range(3):
        ours = f"{bottom_up}.stem.conv{index + 1}"
        rules.append((rf"backbone\.stem\.{3 * index}\.weight", rf"{ours}.weight"))
        rules.append((rf"backbone\.stem\.{3 * index + 1}\.{_NORM}", rf"{ours}.norm.\1"))
    return rules


def _stage_rules(bottom_up: str, layer: int, is_res2net: bool) -> list[Rule]:
    """Rules of one stage; mmdet counts stages from 1, Detectron2 from 2.

    Before the shortcut's convolution Res2Net has a pooling, which takes a number.
    """
    mmdet = rf"backbone\.layer{layer}\.(\d+)"
    ours = rf"{bottom_up}.res{layer + 1}.\1"
    shortcut = 1 if is_res2net else 0
    return [
        (rf"{mmdet}\.conv([123])\.weight", rf"{ours}.conv\2.weight"),
        (rf"{mmdet}\.bn([123])\.{_NORM}", rf"{ours}.conv\2.norm.\3"),
        (rf"{mmdet}\.downsample\.{shortcut}\.weight", rf"{ours}.shortcut.weight"),
        (rf"{mmdet}\.downsample\.{shortcut + 1}\.{_NORM}", rf"{ours}.shortcut.norm.\2"),
        (rf"{mmdet}\.conv2\.conv_offset\.{_AFFINE}", rf"{ours}.conv2_offset.\2"),
        (rf"{mmdet}\.convs\.(\d+)\.weight", rf"{ours}.convs.\2.weight"),
        (rf"{mmdet}\.bns\.(\d+)\.{_NORM}", rf"{ours}.convs.\2.norm.\3"),
        (rf"{mmdet}\.convs\.(\d+)\.conv_offset\.{_AFFINE}", rf"{ours}.convs.\2.offset.\3"),
    ]


def _fpn_rules(fpn: str, p6: str, p7: str) -> list[Rule]:
    """Rules of a pyramid: convolution i of P3-P5 is number i + 3; P6 and P7 follow."""
    rules = []
    for index in range(3):
        lateral = rf"neck\.lateral_convs\.{index}\.conv\.{_AFFINE}"
        rules.append((lateral, rf"{fpn}.fpn_lateral{index + 3}.\1"))
        rules += _module_rules(f"fpn_convs.{index}", f"{fpn}.fpn_output{index + 3}")
    return [*rules, *_module_rules("fpn_convs.3", p6), *_module_rules("fpn_convs.4", p7)]


def _pafpn_rules() -> list[Rule]:
    """Rules of what VFNet-X's neck has beside its pyramid."""
    rules = []
    for index in range(3):
        rules += _module_rules(f"downsample_convs.{index}", f"backbone.downsample.{index}")
        rules += _module_rules(f"pafpn_convs.{index}", f"backbone.output.{index}")
    return rules


def _module_rules(mmdet: str, ours: str) -> list[Rule]:
    """Rules of a convolution of the neck with bias or GroupNorm, deformable or not."""
    prefix = rf"neck\.{re.escape(mmdet)}"
    return [
        (rf"{prefix}\.conv\.{_AFFINE}", rf"{ours}.\1"),
        (rf"{prefix}\.gn\.{_AFFINE}", rf"{ours}.norm.\1"),
        (rf"{prefix}\.conv\.conv_offset\.{_AFFINE}", rf"{ours}.offset.\1"),
    ]


def _conv_rules(mmdet: str, ours: str) -> list[Rule]:
    """Rules of a convolution with GroupNorm and, where it is deformable, an offset branch."""
    return [
        (rf"bbox_head\.{mmdet}\.conv\.weight", rf"head.{ours}.weight"),
        (rf"bbox_head\.{mmdet}\.gn\.(?P<x>weight|bias)", rf"head.{ours}.norm.\g<x>"),
        (
            rf"bbox_head\.{mmdet}\.conv\.conv_offset\.(?P<x>weight|bias)",
            rf"head.{ours}.offset.\g<x>",
        ),
    ]


_HEAD_RULES = [
    *_conv_rules(r"cls_convs\.(\d+)", r"cls_tower.\1"),
    *_conv_rules(r"reg_convs\.(\d+)", r"box_tower.\1"),
    *_conv_rules(r"vfnet_reg_conv", r"box_conv"),
    (rf"bbox_head\.vfnet_reg\.{_AFFINE}", r"head.box_pred.\1"),
    (r"bbox_head\.scales\.(\d+)\.scale", r"head.box_scales.\1"),
    (r"bbox_head\.vfnet_reg_refine_dconv\.weight", r"head.box_star.weight"),
    (rf"bbox_head\.vfnet_reg_refine\.{_AFFINE}", r"head.refine_pred.\1"),
    (r"bbox_head\.scales_refine\.(\d+)\.scale", r"head.refine_scales.\1"),
    (r"bbox_head\.vfnet_cls_dconv\.weight", r"head.cls_star.weight"),
    (rf"bbox_head\.vfnet_cls\.{_AFFINE}", r"head.cls_pred.\1"),
    # The raw head has a plain convolution in the star's place.
    *_conv_rules(r"vfnet_cls_conv", r"cls_conv"),
]


def _rules(names: list[str]) -> list[tuple[re.Pattern, str]]:
    """The rules for a checkpoint with these mmdet names."""
    is_res2net = any(".downsample.2." in name for name in names)
    is_pafpn = any(name.startswith("neck.pafpn_convs.") for name in names)
    if is_pafpn:
        fpn = "backbone.fpn"
        neck = [*_fpn_rules(fpn, "backbone.p6", "backbone.p7"), *_pafpn_rules()]
    else:
        fpn = "backbone"
        neck = _fpn_rules(fpn, "backbone.top_block.p6", "backbone.top_block.p7")
    bottom_up = f"{fpn}.bottom_up"
    stages = [rule for layer in (1, 2, 3, 4) for rule in _stage_rules(bottom_up, layer, is_res2net)]
    rules = [*_stem_rules(bottom_up), *stages, *neck, *_HEAD_RULES]
    return [(re.compile(pattern), ours) for pattern, ours in rules]


# What the names of a whole detector begin with.
_DETECTOR_PART = re.compile(r"(module\.)?(backbone|neck|bbox_head)\.")

# What a checkpoint holds beside the detector's weights.
_DROPPED = [
    re.compile(r".*\.num_batches_tracked"),  # a counter; unused with a fixed momentum
    re.compile(r"ema_.*"),  # copies by mmdet 2's EMA hook
    re.compile(r"data_preprocessor\.(mean|std)"),  # in Detectron2 from the config
    re.compile(r"backbone\.fc\.(weight|bias)"),  # the 1000 classes of an ImageNet backbone
]


def convert_state_dict(state_dict: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Rename an mmdet VFNet's state dict, or a torchvision ResNet's, to this project's names.

    Args:
        state_dict: mmdet names (2.x or 3.x; a leading "module." is ignored) -> tensors. An ImageNet
            backbone alone has them without "backbone.", as torchvision and mmdet publish it.

    Returns:
        Our names -> the same tensors, in the same order.

    Raises:
        UserError: names without a rule, two names for one parameter, or values that are no
            tensors; the message lists them.
    """
    converted: dict[str, torch.Tensor] = {}
    unknown, doubled, no_tensors = [], [], []
    prefix = "" if any(_DETECTOR_PART.match(str(name)) for name in state_dict) else "backbone."
    bare_names = {name: prefix + re.sub(r"^module\.", "", str(name)) for name in state_dict}
    rules = _rules(list(bare_names.values()))
    for name, value in state_dict.items():
        bare = bare_names[name]
        if any(pattern.fullmatch(bare) for pattern in _DROPPED):
            continue
        ours = _our_name(bare, rules)
        if ours is None:
            unknown.append(str(name))
        elif not isinstance(value, torch.Tensor):
            no_tensors.append(str(name))
        elif ours in converted:
            doubled.append(str(name))
        else:
            converted[ours] = value
    for names, problem in (
        (unknown, "unlike any name of a VFNet that this version of the project knows"),
        (doubled, "a second value for a parameter that is already there"),
        (no_tensors, "no tensor"),
    ):
        if names:
            raise UserError(
                f"expected the names and tensors of an mmdet VFNet; {len(names)} "
                f"of {len(state_dict)} entries are {problem}: {', '.join(names)}. "
                "Give the checkpoint of a VFNet"
            )
    return converted


def _our_name(mmdet_name: str, rules: list[tuple[re.Pattern, str]]) -> str | None:
    for pattern, ours in rules:
        match = pattern.fullmatch(mmdet_name)
        if match:
            return match.expand(ours)
    return None
