"""Names of necks: a feature pyramid, alone or in a PAFPN, and what may be wrapped around it."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple

from .rule import Rule, conv_rules


class Neck(NamedTuple):
    """What is to be known of a neck."""

    is_pafpn: bool
    is_balanced: bool  # in a balanced feature pyramid
    has_p2: bool  # four levels of its own, P2 to P5, instead of P3 to P5

    @property
    def pyramid(self) -> str:
        """What this project calls the pyramid that may be balanced."""
        return "backbone.pyramid" if self.is_balanced else "backbone"

    @property
    def fpn(self) -> str:
        """What this project calls the FPN, which has the backbone."""
        return f"{self.pyramid}.fpn" if self.is_pafpn else self.pyramid


# Of each side: how a name begins that only such a neck has.
_SIGNS = {
    "mmdet": {
        "is_pafpn": r"neck\.(0\.)?pafpn_convs\.",
        "is_balanced": r"neck\.[01]\.",
        "has_p2": r"neck\.(0\.)?lateral_convs\.3\.",
    },
    "ours": {
        "is_pafpn": r"backbone\.(pyramid\.)?fpn\.",
        "is_balanced": r"backbone\.(pyramid|bfp)\.",
        "has_p2": r"backbone\.(pyramid\.)?(fpn\.)?fpn_(lateral|output)2\.",
    },
}


def neck_of(names: Collection[str], side: str) -> Neck:
    """The kind of neck that these names, of one side, are from."""
    signs = _SIGNS[side].items()
    return Neck(**{kind: any(re.match(sign, name) for name in names) for kind, sign in signs})


def neck_rules(neck: Neck) -> list[Rule]:
    """The rules for one kind of neck; mmdet numbers the necks where there are two."""
    mmdet = "neck.0" if neck.is_balanced else "neck"
    top = neck.pyramid if neck.is_pafpn else f"{neck.pyramid}.top_block"
    return [
        *_fpn(mmdet, neck.fpn, top, 2 if neck.has_p2 else 3),
        *(_pafpn(mmdet, neck.pyramid) if neck.is_pafpn else []),
        *(_balanced() if neck.is_balanced else []),
    ]


def _fpn(mmdet: str, fpn: str, top: str, finest: int) -> list[Rule]:
    """A pyramid: mmdet's convolution i of the finest level to P5 is ours of `finest` + i.

    P6 and P7 follow; where P6 is pooled there are none.
    """
    rules = []
    for index in range(6 - finest):
        level = finest + index
        rules += conv_rules(f"{mmdet}.lateral_convs.{index}", f"{fpn}.fpn_lateral{level}")
        rules += conv_rules(f"{mmdet}.fpn_convs.{index}", f"{fpn}.fpn_output{level}")
    for level in (6, 7):
        rules += conv_rules(f"{mmdet}.fpn_convs.{level - finest}", f"{top}.p{level}")
    return rules


def _pafpn(mmdet: str, ours: str) -> list[Rule]:
    """What VFNet-X's neck has beside its pyramid."""
    return [
        *conv_rules(f"{mmdet}.downsample_convs.{{index}}", f"{ours}.downsample.{{index}}"),
        *conv_rules(f"{mmdet}.pafpn_convs.{{index}}", f"{ours}.output.{{index}}"),
    ]


def _balanced() -> list[Rule]:
    """What refines the mean of the levels: a non-local block, or one convolution."""
    mmdet, ours = "neck.1.refine", "backbone.bfp.refine"
    return [
        Rule(f"{mmdet}.{{branch}}.conv.{{affine}}", f"{ours}.{{branch}}.{{affine}}"),
        Rule(f"{mmdet}.conv.{{affine}}", f"{ours}.{{affine}}"),
    ]
