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
_STEM_RULES = [
    (re.compile(pattern), ours)
    for pattern, ours in [
        *_STEM_RULES,
        *(rule for layer in (1, 2, 3, 4) for rule in _stage_rules(layer)),
        *_neck_rules(),
        *_HEAD_RULES,
    ]
]

# What a checkpoint holds beside the detector's weights.
_DROPPED = [
    re.compile(r".*\.num_batches_tracked"),  # a counter; unused with a fixed momentum
    re.compile(r"ema_.*"),  # copies by mmdet 2's EMA hook
    re.compile(r"data_preprocessor\.(mean|std)"),  # in Detectron2 from the config
]


def convert_state_dict(state_dict: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Rename an mmdet VFNet's state dict to this project's names.

    Args:
        state_dict: mmdet names (2.x or 3.x; a leading "module." is ignored) -> tensors.

    Returns:
        Our names -> the same tensors, in the same order.

    Raises:
        UserError: names without a rule, two names for one parameter, or values that are no
            tensors; the message lists them.
    """
    converted: dict[str, torch.Tensor] = {}
    unknown, doubled, no_tensors = [], [], []
    for name, value in state_dict.items():
        bare = re.sub(r"^module\.", "", str(name))
        if any(pattern.fullmatch(bare) for pattern in _DROPPED):
            continue
        ours = _our_name(bare)
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


def _our_name(mmdet_name: str) -> str | None:
    for pattern, ours in _RULES:
        match = pattern.fullmatch(mmdet_name)
        if match:
            return match.expand(ours)
    return None
