"""What nobody needs to read: some warnings, what is logged twice, tracebacks told in a line."""

import contextlib
import logging
import warnings
from collections.abc import Iterator

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
def silent_logs() -> Iterator[None]:
    """Log nothing; for what a run says once more when it does it itself."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
