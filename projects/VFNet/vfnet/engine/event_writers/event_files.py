"""Metrics and events: written on by continued runs, and named, once, where they cannot be."""

import contextlib
import json
import os
import stat
from collections.abc import Callable, Iterable
from typing import Any

from detectron2.utils.events import (
    EventWriter,
    JSONWriter,
    TensorboardXWriter,
    get_event_storage,
)

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
        if start_iter() > 0:
            drop_rows(metrics, start_iter(), start_iter() < max_iter, _scored_at(start_iter()))
        return JSONWriter(metrics)

    def open_events() -> EventWriter:
        if not 0 < start_iter() < max_iter:
            return TensorboardXWriter(output_dir)
        # It hides steps of older files from this one on.
        first = start_iter() if _scored_at(start_iter()) else start_iter() + 1
        return TensorboardXWriter(output_dir, purge_step=first)

    return [
        EventFile(open_metrics, metrics),
        EventFile(open_events, os.path.join(output_dir, EVENTS)),
    ]


def drop_rows(file: str, start_iter: int, trains: bool, scored: bool) -> None:
    """Remove from metrics.json what a run that goes on at an iteration writes once more.

    Iterations count from 0, but an evaluation after the last one has the number of those that are
    done, as Detectron2 has it: that of the weights which the run goes on with.

    The file is replaced as a whole, a link's target with it. Lines that are no metrics stay; one
    that a kill has cut gets its end, as the next would else be glued to it.

    Args:
        file: metrics.json.
        start_iter: iterations that are done.
        trains: whether the run takes iterations.
        scored: whether it has evaluated the weights that it goes on with.

    Raises:
        WriteError: it cannot be written.
    """

    def is_written_again(line: bytes) -> bool:
        row = _row(line)
        iteration = row.get("iteration")
        if not isinstance(iteration, (int, float)) or iteration < start_iter:
            return False
        is_evaluation = iteration == start_iter and _has_score(row) and "total_loss" not in row
        return scored if is_evaluation else trains

    with open(file, "rb") as stream:
        before = stream.read()
        mode = os.fstat(stream.fileno()).st_mode
    after = b"".join(line + b"\n" for line in before.splitlines() if not is_written_again(line))
    if after != before:
        with write_aside(os.path.realpath(file)) as aside:
            os.fchmod(aside.fileno(), stat.S_IMODE(mode))
            aside.write(after)


def _row(line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}


def _has_score(names: Iterable[str]) -> bool:
    # As "bbox/AP" and "my_val/bbox/AP"; names of a step have slashes, too.
    return any(name.endswith("/AP") for name in names)


def _scored_at(iteration: int) -> bool:
    latest = get_event_storage().latest().items()
    return _has_score(name for name, (_, stored_at) in latest if stored_at == iteration)
