"""Metrics and events: written on by continued runs, and named, once, where they cannot be."""

import contextlib
import json
import os
from collections.abc import Callable

from detectron2.utils.events import EventWriter, JSONWriter, TensorboardXWriter

from ...utils.files import WriteError, write_aside, writing

METRICS, EVENTS = "metrics.json", "events.out.tfevents"


class EventFile(EventWriter):
    """A writer of events that raises `WriteError` once, and has closed its file by then.

    It is opened with the first numbers.
    """

    def __init__(self, open_writer: Callable[[], EventWriter], file: str) -> None:
        """
        Args:
            open_writer: makes the writer.
            file: named where the system names none.
        """
        self._open_writer: Callable[[], EventWriter] | None = open_writer
        self._writer: EventWriter | None = None
        self._file = file

    def write(self) -> None:
        if self._open_writer is None:
            return
        try:
            with writing(self._file):
                if self._writer is None:
                    self._writer = self._open_writer()
                self._writer.write()
        except WriteError:
            with contextlib.suppress(WriteError):
                self.close()
            raise

    def close(self) -> None:
        writer, self._writer, self._open_writer = self._writer, None, None
        if writer is not None:
            with writing(self._file):
                writer.close()


def event_files(output_dir: str, max_iter: int, start_iter: Callable[[], int]) -> list[EventWriter]:
    """Return what writes metrics.json and TensorBoard's events, each an `EventFile`.

    What is in them of iterations that a continued run does again goes, or is hidden.

    Args:
        output_dir: the folder of the run.
        max_iter: iterations of the run.
        start_iter: where it begins; asked with the first numbers.

    Raises:
        WriteError: metrics.json cannot be written.
    """
    metrics = os.path.join(output_dir, METRICS)
    with writing(metrics), open(metrics, "ab"):
        pass

    def open_metrics() -> EventWriter:
        if 0 < start_iter() < max_iter:
            drop_rows(metrics, start_iter())
        return JSONWriter(metrics)

    def open_events() -> EventWriter:
        # TensorBoard hides steps of older files from this one on: see `drop_rows` for the one more.
        purge = {"purge_step": start_iter() + 1} if 0 < start_iter() < max_iter else {}
        return TensorboardXWriter(output_dir, **purge)

    return [
        EventFile(open_metrics, metrics),
        EventFile(open_events, os.path.join(output_dir, EVENTS)),
    ]


def drop_rows(file: str, start_iter: int) -> None:
    """Remove from metrics.json what a run that goes on at an iteration writes once more.

    The file is replaced as a whole. Lines that are no metrics stay; one that a kill has cut gets
    its end, as the next would else be glued to it.

    Raises:
        WriteError: it cannot be written.
    """
    with open(file, "rb") as stream:
        before = stream.read()
    lines = [line for line in before.splitlines() if not _is_done_again(line, start_iter)]
    after = b"".join(line + b"\n" for line in lines)
    if after != before:
        with write_aside(file) as stream:
            stream.write(after)


def _is_done_again(line: bytes, start_iter: int) -> bool:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return False
    iteration = row.get("iteration") if isinstance(row, dict) else None
    if not isinstance(iteration, (int, float)):
        return False
    # Iterations count from 0, but an evaluation after the last one has the number of those that are
    # done, as Detectron2 has it: that of the weights that the run goes on with stays.
    is_evaluation = iteration == start_iter and "total_loss" not in row
    return iteration >= start_iter and not is_evaluation
