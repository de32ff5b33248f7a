"""What a network computes in where its layers allow it: a name of the config to autocast's type."""

import torch

from ..errors import UserError

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


def autocast_type(key: str, name: str, device_type: str) -> torch.dtype | None:
    """The type for `torch.autocast`; None for float32, which needs none.

    Args:
        key: of the config, for messages. name: its value.
        device_type: "cpu", "cuda", ...

    Raises:
        UserError: the name is unknown, or the device cannot compute in it.
    """
    if name not in PRECISIONS:
        raise UserError(f"{key} must be one of {', '.join(PRECISIONS)}, got {name!r}")
    if device_type == "cpu" and name == "float16":
        raise UserError(f"{key} float16 needs a GPU; on a CPU set {key} bfloat16")
    return PRECISIONS[name]
