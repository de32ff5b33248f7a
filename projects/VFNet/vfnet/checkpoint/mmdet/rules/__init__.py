"""The tables of parameter names: mmdet's and this project's, side by side.

mmdet 2.x and 3.x use the same names. Backbones and necks are shared; a detector is one file of
`heads`.
"""

from __future__ import annotations

from collections.abc import Collection

from .backbone import backbone_rules
from .heads import TABLES
from .neck import neck_rules
from .rule import Rule, Table, pattern

__all__ = ["Rule", "head_table", "pattern", "rules"]


def head_table(names: Collection[str], side: str) -> Table:
    """The table of the detector that has these names.

    Args:
        names: of a whole detector, or of a part of one.
        side: whose names they are, "mmdet" or "ours".

    Returns:
        the one that recognises a name as its own or else knows most of them: heads share names.
    """

    def fit(table: Table) -> tuple[bool, int]:
        patterns = [pattern(getattr(rule, side)) for rule in table.rules]
        known = sum(any(p.fullmatch(name) for p in patterns) for name in names)
        return any(table.recognises(name, side) for name in names), known

    return max(TABLES, key=fit)


def rules(table: Table, is_res2net: bool, is_pafpn: bool) -> list[Rule]:
    """The rules for one kind of head, of backbone and of neck."""
    fpn = "backbone.fpn" if is_pafpn else "backbone"
    backbone = backbone_rules(f"{fpn}.bottom_up", is_res2net)
    return [*backbone, *neck_rules(fpn, is_pafpn), *table.rules]
