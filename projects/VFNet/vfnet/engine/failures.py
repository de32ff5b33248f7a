"""What is expected to end a training now and then does so in one line."""

import contextlib
import logging
import sys
import threading
from collections.abc import Iterator

from detectron2.engine import TrainerBase

from ..processes.explanations import explanation
from ..utils.files import WriteError
from .resume import what_remains


@contextlib.contextmanager
def failures_in_one_line(trainer: TrainerBase, output_dir: str) -> Iterator[None]:
    """Keep tracebacks of expected errors off the terminal, and say what a failed training leaves.

    Expected is what `explanation` knows, whose message the command line prints. The log file has
    the traceback that Detectron2's loop logs.

    Raises:
        WriteError: a file of the run cannot be written, or one of its data is gone.
    """
    thread_hook = threading.excepthook
    # What TensorBoard's thread raises, its next write raises again.
    threading.excepthook = lambda said: None if _is_tensorboards(said) else thread_hook(said)
    terminal = [
        handler
        for handler in logging.getLogger("detectron2").handlers
        if getattr(handler, "stream", None) in (sys.stdout, sys.stderr)
    ]
    for handler in terminal:
        handler.addFilter(_is_unexpected)
    try:
        yield
    except OSError as error:
        if not _is_of_a_file(error):
            raise
        what = error if isinstance(error, WriteError) else f"{error.filename}: {error.strerror}"
        raise WriteError(
            f"{what}; training stopped at iteration {trainer.iter}. {what_remains(output_dir)}"
        ) from error
    finally:
        threading.excepthook = thread_hook
        for handler in terminal:
            handler.removeFilter(_is_unexpected)


def _is_tensorboards(said: threading.ExceptHookArgs) -> bool:
    by = type(said.thread).__module__.partition(".")[0]
    return by == "tensorboard" and isinstance(said.exc_value, OSError)


def _is_unexpected(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return error is None or explanation(error) is None


def _is_of_a_file(error: BaseException | None) -> bool:
    # A connection that breaks has none.
    return isinstance(error, WriteError) or (isinstance(error, OSError) and bool(error.filename))
