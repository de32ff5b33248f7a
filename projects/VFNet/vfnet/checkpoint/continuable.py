"""Can a run be continued from this file?"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from typing import Any

from ..errors import UserError
from ..utils.text import listed
from .finite import non_finite
from .tensor_file import read_checkpoint


def read_own(path: str) -> dict[str, Any]:
    """Read a file that a run has written, tensors memory-mapped; see `read_checkpoint`.

    Raises:
        UserError: it is damaged. There is no advice to download it again.
    """
    try:
        return read_checkpoint(path, refuse_foreign=True, mmap=True)
    except UserError as error:
        reason = (str(error.__cause__ or error).splitlines() or ["no message"])[0]
        raise UserError(f"{path} is truncated or damaged ({reason})") from error


def check_continuable(path: str) -> int:
    """Read a whole checkpoint of a run, and return the last iteration that is in it.

    Looked at: the checksum of every record (see `read_checkpoint`), that weights, optimizer and
    schedule are there, that the iteration is a number, and that all tensors are finite. Whether it
    fits the model, `VFNetCheckpointer` says.

    Raises:
        UserError: nothing can be continued from it.
    """
    content = read_own(path)
    weights, trainer = content.get("model"), content.get("trainer")
    if not isinstance(trainer, Mapping):
        raise UserError(f"{path} holds weights alone, without the state of a run")
    step, hooks = (_mapping(trainer, key) for key in ("_trainer", "hooks"))
    optimizer = _mapping(step, "optimizer")
    parts = {
        "weights": isinstance(weights, Mapping) and weights,
        "optimizer": optimizer.get("param_groups") and "state" in optimizer,
        "schedule": hooks.get("LRScheduler"),
    }
    if missing := [name for name, there in parts.items() if not there]:
        raise UserError(f"{path} has no {' and no '.join(missing)} to continue with")
    iteration = trainer.get("iteration")
    if not isinstance(iteration, int) or iteration < 0 or step.get("iteration") != iteration:
        raise UserError(f"{path} does not say at which iteration it was written: {iteration!r}")
    if names := list(non_finite({"model": weights, "trainer": trainer})):
        raise UserError(f"{path} holds numbers that are not finite or not real, in {listed(names)}")
    return iteration


def fingerprint(path: str) -> object:
    """What two files of the same content have in common, and others do not: their checksums.

    Of a file that `check_continuable` has read; those of the format before torch 1.6 have none.
    """
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        return [(info.filename, info.CRC) for info in archive.infolist()]


def _mapping(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = content.get(key)
    return value if isinstance(value, Mapping) else {}
