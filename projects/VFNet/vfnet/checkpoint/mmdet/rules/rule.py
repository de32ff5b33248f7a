"""A rule: one kind of parameter under mmdet's name and under this project's.

It reads in both directions; its fields, in braces, stand for what both names have in common.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

# What becomes of a parameter's values on the way to the other side.
Change = Callable[[Tensor], Tensor]


def unchanged(values: Tensor) -> Tensor:
    """Most parameters are the same on both sides."""
    return values


class Rule(NamedTuple):
    """Two templates for the names of one kind of parameter, and how its values differ.

    Of the rules of a table the first that fits a name is the one: a second name of a layer goes
    below the one that is written back.
    """

    mmdet: str
    ours: str
    to_ours: Change = unchanged
    to_mmdet: Change = unchanged


class Table(NamedTuple):
    """The rules for the head of one detector."""

    detector: str  # for messages
    mmdet: str  # an expression for how names begin that no other detector of mmdet has
    ours: str  # the same for names of this project
    rules: list[Rule]

    def recognises(self, name: str, side: str) -> bool:
        """Whether a name of one side, "mmdet" or "ours", is this detector's alone."""
        return re.match(getattr(self, side), name) is not None


_FIELDS = {
    "block": r"\d+",
    "conv": "[123]",
    "index": r"\d+",
    "affine": "weight|bias",
    "branch": "g|theta|phi|conv_out",
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


def head_conv(mmdet: str, ours: str) -> list[Rule]:
    """`conv_rules` of a head."""
    return conv_rules(f"bbox_head.{mmdet}", f"head.{ours}")


def conv_rules(mmdet: str, ours: str) -> list[Rule]:
    """A convolution with bias or GroupNorm and, where it is deformable, an offset branch."""
    return [
        Rule(f"{mmdet}.conv.{{affine}}", f"{ours}.{{affine}}"),
        Rule(f"{mmdet}.gn.{{affine}}", f"{ours}.norm.{{affine}}"),
        Rule(f"{mmdet}.conv.conv_offset.{{affine}}", f"{ours}.offset.{{affine}}"),
    ]


def tower_rules() -> list[Rule]:
    """The two towers and the factors of levels that most heads have."""
    return [
        *head_conv("cls_convs.{index}", "cls_tower.{index}"),
        *head_conv("reg_convs.{index}", "box_tower.{index}"),
        Rule("bbox_head.scales.{index}.scale", "head.box_scales.{index}"),
    ]
