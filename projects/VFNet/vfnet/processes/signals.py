"""How a process ends because somebody outside says so, or is no longer there to say anything."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing import parent_process
from typing import Any

# Seconds between two looks for the parent.
_PERIOD = 1.0


class Stopped(SystemExit):
    """SIGTERM has come. Not an `Exception`, so that nothing takes it for a failure."""

    # As a shell has it: 128 and the signal's number.
    STATUS = 128 + signal.SIGTERM


@contextlib.contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """Let SIGTERM raise `Stopped` in the block, as Ctrl-C raises KeyboardInterrupt.

    By itself it would end the process on the spot, with files open and workers waiting. Nothing
    changes outside of the main thread, and where the caller of the program has it ignored.
    """
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    ):
        yield
        return
    signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _stop(*_: Any) -> None:
    raise Stopped(Stopped.STATUS)


def end_with_parent() -> None:
    """End this process within seconds of the one that started it, however that one ended.

    A process that was killed cannot tell its children. The system could, but not every system, and
    PyTorch asks it for SIGINT, which is ignored under `nohup`. So a thread watches. The loader's
    workers end soon after this process in the same way, which PyTorch sees to.
    """
    # What multiprocessing started knows it, even if it has gone by now.
    started_by = parent_process()
    parent = started_by.pid if started_by else os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PERIOD)
        print("error: the process that started this one has gone", file=sys.stderr, flush=True)
        os._exit(1)

    threading.Thread(target=watch, name="end_with_parent", daemon=True).start()
