"""A bar on the terminal in place of a line every 20 iterations; log files have the lines."""

import logging
import sys
from collections.abc import Callable
from contextlib import ExitStack, redirect_stderr, redirect_stdout

from detectron2.engine import HookBase
from detectron2.utils import comm
from tqdm import tqdm
from tqdm.contrib import DummyTqdmFile

from ..event_writers.writers import METRIC_LINES, epoch_words


class ProgressBar(HookBase):
    """Show iterations, epoch, loss and time left; what is logged or printed stands above.

    The loss is the one of the lines: the median of the last 20 iterations. It comes first among
    the hooks, so that what the others say goes above the bar.
    """

    def __init__(self, epoch_length: Callable[[], float | None]) -> None:
        """`epoch_length`: see `epoch_words`."""
        self._epoch_length = epoch_length
        self._stack = ExitStack()

    def before_train(self) -> None:
        """Draw the bar, and lead what others write to the terminal above it."""
        terminal, above = sys.stdout, DummyTqdmFile(sys.stdout)
        handlers = [
            handler
            for name in ("detectron2", "fvcore", "vfnet")
            for handler in logging.getLogger(name).handlers
            if isinstance(handler, logging.StreamHandler)
            and handler.stream in (sys.stdout, sys.stderr)
        ]
        self._bar = self._stack.enter_context(
            tqdm(
                total=self.trainer.max_iter,
                initial=self.trainer.start_iter,
                file=terminal,
                dynamic_ncols=True,
                smoothing=0.05,  # evaluations take long, and are few
            )
        )
        for handler in handlers:
            self._stack.callback(handler.setStream, handler.stream)
            handler.setStream(above)
            handler.addFilter(_is_no_metric_line)
            self._stack.callback(handler.removeFilter, _is_no_metric_line)
        if sys.stderr.isatty():
            self._stack.enter_context(redirect_stderr(above))
        self._stack.enter_context(redirect_stdout(above))

    def after_step(self) -> None:
        """Count an iteration."""
        storage, words = self.trainer.storage, []
        if epoch := epoch_words(storage.iter, self.trainer.max_iter, self._epoch_length()):
            words.append(epoch)
        if "total_loss" in storage.histories():
            window = storage.count_samples("total_loss", 20)
            words.append(f"loss {storage.history('total_loss').median(window):.4g}")
        self._bar.set_postfix_str(", ".join(words), refresh=False)
        self._bar.update()

    def after_train(self) -> None:
        """Leave the bar as it is, and the terminal to the others."""
        self._stack.close()


def build_progress_bar(epoch_length: Callable[[], float | None]) -> list[HookBase]:
    """The bar of a run whose first process has a terminal; `epoch_length`: see `epoch_words`."""
    on_terminal = comm.is_main_process() and sys.stdout.isatty()
    return [ProgressBar(epoch_length)] if on_terminal else []


def _is_no_metric_line(record: logging.LogRecord) -> bool:
    return record.name != METRIC_LINES or record.levelno > logging.INFO
