"""What nobody needs to read: some warnings, what is logged twice, tracebacks told in a line."""

import contextlib
import logging
import sys
import warnings
from collections.abc import Callable, Iterator

# Warnings that nobody who runs a command of this project can do anything about.
# Message, category and module, as `warnings.filterwarnings` takes them; each by its own source.
_KNOWN: list[tuple[str, type[Warning], str]] = [
    # Importing detectron2 scripts functions; the category depends on torch's version.
    (r"`torch\.jit\.script` is deprecated", Warning, r"torch\.jit\."),
    # Its model zoo.
    (r"pkg_resources is deprecated", UserWarning, r"detectron2\.model_zoo\."),
    # Its models on several processes; the new argument is not there in every torch.
    (r"`broadcast_buffers` is deprecated", FutureWarning, r"detectron2\.engine\.defaults"),
    # Its anchors.
    (r"torch\.meshgrid: in an upcoming release", UserWarning, r"torch\.functional"),
    # Of pictures above half of INPUT.MAX_PIXELS, which are allowed.
    (r"Image size .* exceeds limit", Warning, r"PIL\.Image"),
]


def ignore_known_warnings() -> None:
    """Ignore them in this process from here on, or until `warnings.catch_warnings` ends."""
    for message, category, module in _KNOWN:
        warnings.filterwarnings("ignore", message, category, module)


@contextlib.contextmanager
def errors_off_the_terminal(explanation: Callable[[BaseException], object]) -> Iterator[None]:
    """Keep the traceback that Detectron2's loop logs of what is no bug out of the terminal.

    The command line prints such an error's message; the log file has the traceback.

    Args:
        explanation: None for the errors whose traceback is shown.
    """

    def is_shown(record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return error is None or explanation(error) is None

    terminal = [
        handler
        for handler in logging.getLogger("detectron2").handlers
        if getattr(handler, "stream", None) in (sys.stdout, sys.stderr)
    ]
    for handler in terminal:
        handler.addFilter(is_shown)
    try:
        yield
    finally:
        for handler in terminal:
            handler.removeFilter(is_shown)


@contextlib.contextmanager
def silent_logs() -> Iterator[None]:
    """Log nothing; for what a run says once more when it does it itself."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
