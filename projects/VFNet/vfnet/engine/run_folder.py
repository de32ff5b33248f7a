"""The folder of a run: one run at a time, and nothing left in it of killed ones."""

import atexit
import contextlib
import logging
import os
from collections.abc import Iterator

from detectron2.utils import comm

from ..utils.comm import on_main_process
from ..utils.files import remove_leftovers
from ..utils.folder_lock import locked

logger = logging.getLogger(__name__)

# Whose files lie in the folder.
_LOGGERS = ("detectron2", "fvcore", "vfnet")


@contextlib.contextmanager
def only_run_in(folder: str) -> Iterator[None]:
    """Be the only job that trains into `folder` within the block, which is made where missing.

    The first process of the job has the lock (see `vfnet.utils.folder_lock`); all fail together.

    Raises:
        UserError: another job has it, or the folder cannot be written to.
    """
    with contextlib.ExitStack() as stack:
        on_main_process(lambda: stack.enter_context(locked(folder)))
        yield


def clean(folder: str) -> None:
    """Remove what killed runs have left half-written in `folder`; within `only_run_in`."""
    if comm.is_main_process() and (names := remove_leftovers(folder)):
        logger.info(f"removed what a killed run had left half-written: {', '.join(names)}")


def log_on_full_disks() -> None:
    """Let log files that cannot be written end neither the run nor in tracebacks.

    What cannot be written there is on the terminal. Every other file of a run is an error.
    """
    logging.raiseExceptions = False
    atexit.register(_close_log_files)


def _close_log_files() -> None:
    """Before Detectron2 does so, which would print a traceback for each."""
    for name in _LOGGERS:
        for handler in logging.getLogger(name).handlers:
            stream = getattr(handler, "stream", None)
            if stream is not None and os.path.isfile(str(getattr(stream, "name", ""))):
                with contextlib.suppress(OSError):
                    stream.close()
