"""Where numbers and pictures of a training go: Detectron2's writers, with the epoch, and W&B."""

import logging
from collections.abc import Callable, MutableMapping
from typing import Any

from detectron2.config import CfgNode
from detectron2.utils.events import CommonMetricPrinter, EventWriter, get_event_storage
from detectron2.utils.file_io import PathManager

from ...utils.files import writing
from .event_files import event_files
from .wandb_writer import WandbWriter

# The logger of Detectron2's `CommonMetricPrinter`.
METRIC_LINES = "detectron2.utils.events"


def build_writers(
    cfg: CfgNode,
    max_iter: int,
    epoch_length: Callable[[], float | None],
    start_iter: Callable[[], int],
) -> list[EventWriter]:
    """Detectron2's writers (log lines, metrics.json, TensorBoard), and that of WANDB.

    Args:
        cfg: the config; OUTPUT_DIR and WANDB are read.
        max_iter: iterations of the run.
        epoch_length: see `epoch_words`.
        start_iter: where the run begins, above 0 where it goes on from a checkpoint of its own;
            asked with the first numbers.
    """
    with writing(cfg.OUTPUT_DIR):
        PathManager.mkdirs(cfg.OUTPUT_DIR)
    files = event_files(cfg.OUTPUT_DIR, max_iter, start_iter)
    printer = CommonMetricPrinter(max_iter)
    printer.logger = _LinesWithEpoch(printer.logger, max_iter, epoch_length)
    # Before TensorBoard's writer, which clears the pictures.
    more = [WandbWriter(cfg, lambda: start_iter() > 0)] if cfg.WANDB.ENABLED else []
    return [printer, *more, *files]


def epoch_words(iteration: int, max_iter: int, epoch_length: float | None) -> str:
    """Return "epoch 3.2 of 12" after the iteration, counted from 0.

    `epoch_length`: iterations in which every training picture comes once; None: it is not known,
    and there are no words.
    """
    if not epoch_length:
        return ""
    whole = f"{max_iter / epoch_length:.1f}".removesuffix(".0")
    return f"epoch {(iteration + 1) / epoch_length:.1f} of {whole}"


class _LinesWithEpoch(logging.LoggerAdapter):
    """Puts the epoch in front of the lines of Detectron2's printer, whose numbers stay its own."""

    def __init__(
        self, logger: logging.Logger, max_iter: int, epoch_length: Callable[[], float | None]
    ) -> None:
        super().__init__(logger, {})
        self._max_iter = max_iter
        self._epoch_length = epoch_length

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        words = epoch_words(get_event_storage().iter, self._max_iter, self._epoch_length())
        return (f" {words} {msg}" if words else msg), kwargs
