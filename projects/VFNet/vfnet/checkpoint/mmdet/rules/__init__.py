"""The tables of parameter names: mmdet's and this project's, side by side.

mmdet 2.x and 3.x use the same names. Backbones and necks are shared; a detector is one file of
`heads`.
"""

from __future__ import annotations

from collections.abc import Collection

from .backbone import backbone_rules, is_res2net
from .heads import TABLES
from .neck import neck_of, neck_rules
from .rule import Rule, Table, pattern

__all__ = ["Rule", "pattern", "rules"]


def rules(names: Collection[str], side: str) -> list[Rule]:
    """The rules for a detector, or a part of one.

    Args:
        names: what it consists of; they say which kind of head, backbone and neck it has.
        side: whose names they are, "mmdet" or "ours".
    """
    neck = neck_of(names, side)
    backbone = backbone_rules(f"{neck.fpn}.bottom_up", is_res2net(names))
    return [*backbone, *neck_rules(neck), *_head_table(names, side).rules]


def _head_table(names: Collection[str], side: str) -> Table:
    """The table that most names are typical of, or else known by: heads share names."""

    def fit(table: Table) -> tuple[int, int]:
        patterns = [pattern(getattr(rule, side)) for rule in table.rules]
        known = sum(any(p.fullmatch(name) for p in patterns) for name in names)
        return sum(table.recognises(name, side) for name in names), known

    # Of equals the last, which is VFNet: names that all heads have are taken for its.
    return max(reversed(TABLES), key=fit)
