"""What a network computes in where its layers allow it: a name of the config to autocast's type."""

import os
from contextlib import AbstractContextManager, nullcontext

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


def without_autocast(device_type: str) -> AbstractContextManager:
    """Within it layers compute in what they are given. Exported graphs, float32 anyway, lack it."""
    if torch.compiler.is_exporting():
        return nullcontext()
    return torch.autocast(device_type, enabled=False)


def avoid_amx() -> None:
    """Let oneDNN compute in bfloat16 with AVX-512 where this process would with AMX.

    On a processor with AMX (torch 2.14.1, oneDNN 3.12.0) one in about ten runs of the tests had a
    gradient that was NaN, in bfloat16 only; without AMX none had. What oneDNN's kernels for AMX
    read beside a matrix they multiply by zero, which a NaN survives (its issue 5717, for products;
    its pull request 5723 ends that): suspected here, not shown. To be called before oneDNN is first
    asked for anything, when it reads the variable; what the user has set stays.
    """
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")


def slow_precision(key: str, name: str, device_type: str) -> str:
    """Say in one line that a device computes in a precision without its own instructions; else "".

    Args: as `autocast_type`.
    """
    if device_type != "cpu" or name != "bfloat16" or _cpu_has_bfloat16():
        return ""
    return (
        f"{key} is bfloat16, which this processor has no instructions for (AVX-512 or AMX): "
        "expect many times float32's time, 28 times on a processor with AVX2; set float32"
    )


def _cpu_has_bfloat16() -> bool:
    """Whether oneDNN, which convolves on a CPU, computes in bfloat16 here; True if unknown."""
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    return supported()
