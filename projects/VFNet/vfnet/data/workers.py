"""A loader that does not wait for its workers for ever."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from torch.utils.data import DataLoader

from ..errors import UserError

# Of Linux's /proc/PID/stat.
_STATES = {
    "T": "stopped by a signal",
    "D": "waiting for a disk or a network's folder",
    "R": "computing",
    "S": "waiting",
}


def loader_timeout(cfg: CfgNode) -> int:
    """DATALOADER.TIMEOUT in seconds, 0 where the training process itself loads.

    Raises:
        UserError: it is negative.
    """
    timeout = cfg.DATALOADER.TIMEOUT
    if timeout < 0:
        raise UserError(
            f"DATALOADER.TIMEOUT has to be a number of seconds, 0 to wait for ever; got {timeout}"
        )
    return timeout if cfg.DATALOADER.NUM_WORKERS > 0 else 0


class WatchedLoader:
    """A PyTorch loader with a timeout that names the worker which everybody waits for.

    Raises, while iterating:
        UserError: no batch came within `loader.timeout`.
    """

    def __init__(self, loader: DataLoader) -> None:
        self._loader = loader

    def __len__(self) -> int:
        """How many batches there are."""
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        """Yield the batches."""
        iterator: Any = iter(self._loader)
        try:
            yield from iterator
        except RuntimeError as error:
            if not str(error).startswith("DataLoader timed out"):
                raise
            # PyTorch's message names no worker; only its iterator knows whose turn it is.
            number = iterator._task_info[iterator._rcvd_idx][0]
            raise UserError(self._describe(number, iterator._workers[number].pid)) from None

    def _describe(self, number: int, pid: int) -> str:
        state = _state(pid)
        # At the end it is told to stop, and waited for: what a stopped one would never hear.
        os.kill(pid, signal.SIGCONT)
        return (
            f"worker {number} of the loader (process {pid}, {state}) gave nothing for "
            f"{self._loader.timeout} seconds: look for who stopped it or for what it reads; a "
            "larger DATALOADER.TIMEOUT waits longer, 0 for ever; --resume continues a training run "
            "from its last checkpoint"
        )


def _state(pid: int) -> str:
    try:
        letter = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "in an unknown state"
    return _STATES.get(letter, f"in state {letter}")
