"""A loader that does not wait for its workers for ever."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from torch.utils.data import DataLoader

from ..errors import UserError

# How PyTorch's message begins.
_TIMED_OUT = "DataLoader timed out"
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

    Its workers end without a word when this process does.

    Raises, while iterating:
        UserError: no batch came within `loader.timeout`.
    """

    def __init__(self, loader: DataLoader) -> None:
        self._loader = loader
        loader.worker_init_fn = partial(_begin_worker, loader.worker_init_fn)

    @property
    def dataset(self) -> Any:
        """What the samples come from."""
        return self._loader.dataset

    def __len__(self) -> int:
        """How many batches there are."""
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        """Yield the batches."""
        iterator: Any = iter(self._loader)
        while True:
            try:
                with _alarm(self._loader.timeout):
                    batch = next(iterator)
            except StopIteration:
                return
            except RuntimeError as error:
                if not str(error).startswith(_TIMED_OUT):
                    raise
                # PyTorch's message names no worker; only its iterator knows whose turn it is.
                number = iterator._task_info[iterator._rcvd_idx][0]
                worker = iterator._workers[number]
                message = self._describe(number, worker.pid)
                # One that was stopped hears nothing else, and would be waited for at the end.
                with suppress(RuntimeError):  # PyTorch says that it was killed
                    worker.kill()
                    worker.join(5)
                raise UserError(message) from None
            yield batch

    def _describe(self, number: int, pid: int) -> str:
        return (
            f"worker {number} of the loader (process {pid}, {_state(pid)}) gave nothing for "
            f"{self._loader.timeout} seconds: look for who stopped it or for what it reads; a "
            "larger DATALOADER.TIMEOUT waits longer, 0 for ever; --resume continues a training run "
            "from its last checkpoint"
        )


def _begin_worker(init: Callable[[int], None] | None, number: int) -> None:
    # Called by the thread that hands a tensor over, where the process that asked for it has gone.
    sys.excepthook = partial(_show_unless_left, sys.excepthook)
    if init is not None:
        init(number)


def _show_unless_left(show: Callable[..., Any], kind: type[BaseException], *error: Any) -> None:
    if not issubclass(kind, (EOFError, ConnectionError)):
        show(kind, *error)


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Interrupt the block after a time: in a main thread, where SIGALRM is there and nobody's yet.

    PyTorch's own timeout ends the wait for a worker's message, but not the one for a tensor in it,
    which that worker hands over when it is asked: one that was stopped in between never does.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    # A program of the user's may have set it, as pytest-timeout does.
    is_free = hasattr(signal, "SIGALRM") and signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
    if not (seconds and in_main_thread and is_free):
        yield
        return
    signal.signal(signal.SIGALRM, _time_out)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


def _time_out(*_: Any) -> None:
    raise RuntimeError(_TIMED_OUT)


def _state(pid: int) -> str:
    try:
        letter = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "in an unknown state"
    return _STATES.get(letter, f"in state {letter}")
