"""State dicts of mmdet's detectors -> those of this project's, and back, by one table each.

The tables of names are in rules/.

Both sides keep convolutions as (out, in, height, width), so that most tensors stay as they are; a
rule of the table says where outputs have another order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from ...errors import UserError
from .rules import pattern, rules
from .rules.heads import TABLES
from .rules.rule import Change

_DETECTORS = " or ".join(table.detector for table in TABLES)

# Where a backbone lies in a detector with an FPN.
_BOTTOM_UP = "backbone.bottom_up."


# A side's names, the template for those of the other, and what becomes of the values.
_Table = list[tuple[re.Pattern[str], str, Change]]


class _Side(NamedTuple):
    """What is to be known of one side's names."""

    key: str  # the side of a rule: "mmdet" or "ours"
    of: str  # for messages
    detector: re.Pattern[str]  # what the names of a detector begin with
    backbone: str  # what stands before a backbone's names in a detector with an FPN
    dropped: re.Pattern[str]  # what a file holds beside the weights that both sides have


_MMDET = _Side(
    key="mmdet",
    of="a detector of mmdet",
    detector=re.compile(r"(backbone|neck|\w+_head)\."),
    backbone="backbone.",
    dropped=re.compile(
        r".*\.num_batches_tracked"  # a counter; unused with a fixed momentum
        r"|ema_.*"  # copies by mmdet 2's EMA hook
        r"|data_preprocessor\.(mean|std)"  # in Detectron2 from the config
        r"|backbone\.fc\.(weight|bias)"  # the 1000 classes of an ImageNet backbone
    ),
)
_OURS = _Side(
    key="ours",
    of="a detector of this project",
    detector=re.compile(r"(backbone|head|proposal_generator|roi_heads)\."),
    backbone=_BOTTOM_UP,
    dropped=re.compile(
        r".*\.num_batches_tracked|pixel_(mean|std)|roi_heads\.floor_at_zero|normaliser\.average"
    ),
)


def convert_state_dict(state_dict: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Convert the state dict of an mmdet detector, or of a backbone alone, to this project's.

    Args:
        state_dict: mmdet names (2.x or 3.x; a leading "module." is ignored) -> tensors. An ImageNet
            backbone alone has them without "backbone.", as torchvision and mmdet publish it.

    Returns:
        Our names -> tensors, in the same order. A backbone alone gets the names that it has in a
        detector with an FPN.

    Raises:
        UserError: names without a rule, two names for one parameter, or values that are no
            tensors; the message lists them.
    """
    full_names, _ = _full_names(state_dict, _MMDET)
    names = list(full_names.values())
    table = [(pattern(r.mmdet), r.ours, r.to_ours) for r in rules(names, _MMDET.key)]
    return _converted(state_dict, full_names, table, _MMDET)


def to_mmdet_state_dict(state_dict: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Convert a state dict of this project to mmdet's: the inverse of `convert_state_dict`.

    Args:
        state_dict: our names (a leading "module." is ignored) -> tensors; of a backbone alone, with
            or without "backbone.bottom_up.".

    Returns:
        mmdet names -> tensors, in the same order; without the counters of batch norms, which
        mmdet's models do without as well. A backbone alone, given without prefix, gets none.

    Raises:
        UserError: as `convert_state_dict`.
    """
    full_names, is_bare = _full_names(state_dict, _OURS)
    names = list(full_names.values())
    table = [(pattern(r.ours), r.mmdet, r.to_mmdet) for r in rules(names, _OURS.key)]
    converted = _converted(state_dict, full_names, table, _OURS)
    if not is_bare:
        return converted
    return {name[len(_MMDET.backbone) :]: value for name, value in converted.items()}


def backbone_alone(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor] | None:
    """The weights of a converted backbone without any prefix; None if there is more than that.

    Which prefix is right depends on the neck, of which the weights of a backbone say nothing.
    """
    if not state_dict or not all(name.startswith(_BOTTOM_UP) for name in state_dict):
        return None
    return {name[len(_BOTTOM_UP) :]: value for name, value in state_dict.items()}


def _full_names(state_dict: Mapping[str, Any], side: _Side) -> tuple[dict[Any, str], bool]:
    """The names as a detector has them, and whether they are a backbone's without its prefix."""
    names = {name: re.sub(r"^module\.", "", str(name)) for name in state_dict}
    if any(side.detector.match(name) for name in names.values()):
        return names, False
    return {
        name: bare if side.dropped.fullmatch(bare) else side.backbone + bare
        for name, bare in names.items()
    }, True


def _converted(
    state_dict: Mapping[str, Any],
    full_names: Mapping[Any, str],
    table: _Table,
    side: _Side,
) -> dict[str, torch.Tensor]:
    converted: dict[str, torch.Tensor] = {}
    unknown, doubled, no_tensors = [], [], []
    for name, value in state_dict.items():
        full_name = full_names[name]
        if side.dropped.fullmatch(full_name):
            continue
        found = _other_name(full_name, table)
        if found is None:
            unknown.append(str(name))
        elif not isinstance(value, torch.Tensor):
            no_tensors.append(str(name))
        elif found[0] in converted:
            doubled.append(str(name))
        else:
            other, change = found
            converted[other] = change(value)
    for names, problem in (
        (unknown, "unlike any name that this version of the project knows"),
        (doubled, "a second value for a parameter that is already there"),
        (no_tensors, "no tensor"),
    ):
        if names:
            raise UserError(
                f"expected the names and tensors of {side.of}; {len(names)} "
                f"of {len(state_dict)} entries are {problem}: {', '.join(names)}. "
                f"Give the checkpoint of a backbone, or of {_DETECTORS}"
            )
    return converted


def _other_name(name: str, table: _Table) -> tuple[str, Change] | None:
    for own, other, change in table:
        match = own.fullmatch(name)
        if match:
            return other.format(**match.groupdict()), change
    return None
