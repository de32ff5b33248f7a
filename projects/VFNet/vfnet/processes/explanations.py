"""Ends of a run that the system brought about and no line of code: what happened, in a sentence."""

import errno
import re

import torch
from torch import distributed

from ..errors import UserError

_RESUME = "--resume continues a training run from its last checkpoint"
# What PyTorch says of a loader's worker: in Python where it finds out itself, in C++ on SIGCHLD.
_WORKER = re.compile(
    r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) "
    r"(?:is killed by signal: (\w[\w ]*\w)|exited unexpectedly)"
)
# What gloo and NCCL say where another process has gone, and where it has long given nothing.
_GONE = re.compile(
    r"Connection (?:closed|reset) by (?:remote )?peer|Broken pipe|Socket closed|"
    r"remote process exit|communicator was aborted"
)
_SILENT = re.compile(r"[Tt]imed out (?:waiting|after)|Application timeout|[Ww]ait timeout")
_TOO_FEW = {
    errno.ENOMEM: "out of memory",
    errno.EMFILE: "too many open files (`ulimit -n`)",
    errno.ENFILE: "too many open files on this machine",
    errno.EAGAIN: "too many processes or threads (`ulimit -u`)",
}


class LostProcessError(UserError):
    """Another process of the job has gone or gives nothing: a consequence, its cause lies there."""


def explanation(error: BaseException) -> UserError | None:
    """What to tell the user of an error in place of its traceback; None: it is a bug, show it.

    Args:
        error: what ended the work of this process. A `UserError` explains itself.
    """
    if isinstance(error, UserError):
        return error
    text = str(error)
    if isinstance(error, RuntimeError) and (found := _WORKER.search(text)):
        return UserError(_worker_ended(found[1], found[2]))
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in text:
        return UserError(
            f"out of memory: {_first_line(text) or 'no more is to be had'}. Lower "
            f"SOLVER.IMS_PER_BATCH with its rate, or INPUT's sizes; {_RESUME}"
        )
    if isinstance(error, OSError):
        return _system_error(error)
    if isinstance(error, RuntimeError):
        return _other_process(error)
    return None


def ended_by(process: int, signal_name: str) -> str:
    """The sentence about one of this machine's processes that a signal has ended."""
    return f"process {process} of this machine was ended by {_reason(signal_name)}; {_RESUME}"


def sigterm() -> str:
    """SIGTERM, and who is likely to have sent it."""
    if distributed.is_torchelastic_launched():
        return "SIGTERM, which torchrun sends when it is stopped or another process has failed"
    return "SIGTERM"


def _worker_ended(pids: str, signal_name: str | None) -> str:
    if signal_name == "Bus error":
        return (
            f"a loader's worker (process {pids}) ran out of shared memory (/dev/shm): give a "
            "container more (docker run --shm-size 8g), or lower DATALOADER.NUM_WORKERS (0: no "
            f"workers); {_RESUME}"
        )
    how = f"was ended by {_reason(signal_name)}" if signal_name else "ended unexpectedly"
    if signal_name != "Terminated":
        how += "; fewer workers (DATALOADER.NUM_WORKERS) take less memory"
    return f"a loader's worker (process {pids}) {how}; {_RESUME}"


def _reason(signal_name: str) -> str:
    if signal_name in ("SIGKILL", "Killed"):
        return "SIGKILL, as the system does when memory runs out (`dmesg` says whether it did)"
    return sigterm() if signal_name == "Terminated" else signal_name


def _system_error(error: OSError) -> UserError | None:
    if error.errno in _TOO_FEW:
        return UserError(f"{_TOO_FEW[error.errno]}: {error}; {_RESUME}")
    if error.filename is None:
        return None
    return UserError(
        f"{error.filename} cannot be used any more ({error.strerror}): put right what has changed "
        f"since the start; {_RESUME}"
    )


def _other_process(error: RuntimeError) -> UserError | None:
    text = str(error)
    by_group = isinstance(error, distributed.DistError)
    if not by_group and "gloo" not in text:
        return None
    if _SILENT.search(text):
        return LostProcessError(
            "another process of the job gave nothing for as long as DISTRIBUTED.TIMEOUT allows: it "
            f"hangs, was stopped, or works longer than that ({_first_line(text)}); {_RESUME}"
        )
    # Of itself NCCL tells in the same way, such as of a GPU that two processes take.
    if _GONE.search(text) or (by_group and "NCCL" not in text):
        return LostProcessError(
            "another process of the job has ended; its own message or the system's log says why "
            f"({_first_line(text)}); {_RESUME}"
        )
    return None


def _first_line(text: str) -> str:
    return text.strip().split("\n")[0]
