"""Where a benchmark computes and in which precision."""

import torch

from vfnet.errors import UserError
from vfnet.utils.precision import PRECISIONS


def check_device(device: str, precision: str = "float32") -> None:
    """Check that a device is there and computes in a precision, a name of `PRECISIONS`.

    Raises:
        UserError: it is not, or does not.
    """
    if device.partition(":")[0] not in ("cpu", "cuda"):
        raise UserError(f"--device must be cpu or cuda, got {device!r}")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"--device {device} needs a GPU, and there is none; give --device cpu")
    if precision not in PRECISIONS:
        raise UserError(f"expected one of {', '.join(PRECISIONS)}, got {precision!r}")
    if device == "cpu" and precision == "float16":
        raise UserError("--precision float16 needs a GPU; on a CPU give --precision bfloat16")


def autocast(
    device: str, precision: torch.dtype | None, cache_enabled: bool = True
) -> torch.autocast:
    """What computes in a precision on a device; None: float32, as it is.

    `cache_enabled`: weights are cast once in it, not at each use.
    """
    return torch.autocast(
        torch.device(device).type,
        precision,
        enabled=precision is not None,
        cache_enabled=cache_enabled,
    )
