"""Names of necks: a feature pyramid, alone or in a PAFPN."""

from __future__ import annotations

from .rule import Rule, conv_rules


def neck_rules(fpn: str, is_pafpn: bool) -> list[Rule]:
    """The rules for a neck whose pyramid this project calls `fpn`."""
    if is_pafpn:
        return [*_fpn(fpn, "backbone.p6", "backbone.p7"), *_pafpn()]
    return _fpn(fpn, "backbone.top_block.p6", "backbone.top_block.p7")


def _fpn(fpn: str, p6: str, p7: str) -> list[Rule]:
    """A pyramid: convolution i of P3-P5 is number i + 3; P6 and P7 follow."""
    fpn_rules = []
    for index in range(3):
        fpn_rules += conv_rules(f"neck.lateral_convs.{index}", f"{fpn}.fpn_lateral{index + 3}")
        fpn_rules += conv_rules(f"neck.fpn_convs.{index}", f"{fpn}.fpn_output{index + 3}")
    for index, ours in ((3, p6), (4, p7)):
        fpn_rules += conv_rules(f"neck.fpn_convs.{index}", ours)
    return fpn_rules


def _pafpn() -> list[Rule]:
    """What VFNet-X's neck has beside its pyramid."""
    return [
        *conv_rules("neck.downsample_convs.{index}", "backbone.downsample.{index}"),
        *conv_rules("neck.pafpn_convs.{index}", "backbone.output.{index}"),
    ]
