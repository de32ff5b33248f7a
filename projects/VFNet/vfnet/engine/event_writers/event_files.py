"""Metrics and events: a file of theirs that cannot be written is named, once."""

import contextlib
import os

from detectron2.utils.events import EventWriter, JSONWriter, TensorboardXWriter

from ...utils.files import WriteError, writing

# In OUTPUT_DIR, by the writer that writes them.
_FILES = {JSONWriter: "metrics.json", TensorboardXWriter: "events.out.tfevents"}


class EventFile(EventWriter):
    """A writer of events that raises `WriteError` once, and has closed its file by then."""

    def __init__(self, writer: EventWriter, file: str) -> None:
        """`file`: named where the system names none."""
        self._writer: EventWriter | None = writer
        self._file = file

    def write(self) -> None:
        if self._writer is None:
            return
        try:
            with writing(self._file):
                self._writer.write()
        except WriteError:
            with contextlib.suppress(WriteError):
                self.close()
            raise

    def close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            with writing(self._file):
                writer.close()


def named_files(writers: list[EventWriter], output_dir: str) -> list[EventWriter]:
    """Make each writer of a known file an `EventFile`."""
    return [
        EventFile(writer, os.path.join(output_dir, _FILES[type(writer)]))
        if type(writer) in _FILES
        else writer
        for writer in writers
    ]
