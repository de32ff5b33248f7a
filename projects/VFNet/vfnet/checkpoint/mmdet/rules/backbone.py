"""Names of backbones: ResNet and ResNeXt, or Res2Net."""

from __future__ import annotations

from collections.abc import Iterable

from .rule import Rule


def is_res2net(names: Iterable[str]) -> bool:
    """Whether blocks have a list of convolutions; both sides call it the same."""
    return any(".convs." in name for name in names)


def backbone_rules(bottom_up: str, is_res2net: bool) -> list[Rule]:
    """The rules for a backbone that this project calls `bottom_up`."""
    stem = _res2net_stem(bottom_up) if is_res2net else _resnet_stem(bottom_up)
    return [*stem, *(r for layer in (1, 2, 3, 4) for r in _stage(bottom_up, layer, is_res2net))]


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
        # As files were written before mmdet 2; what goes back takes the name above.
        Rule(f"{mmdet}.conv2_offset.{{affine}}", f"{ours}.conv2_offset.{{affine}}"),
        Rule(f"{mmdet}.convs.{{index}}.weight", f"{ours}.convs.{{index}}.weight"),
        Rule(f"{mmdet}.bns.{{index}}.{{norm}}", f"{ours}.convs.{{index}}.norm.{{norm}}"),
        Rule(
            f"{mmdet}.convs.{{index}}.conv_offset.{{affine}}",
            f"{ours}.convs.{{index}}.offset.{{affine}}",
        ),
    ]
