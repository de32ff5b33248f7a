"""What the writers of detections share."""

from __future__ import annotations

import json
import os
from contextlib import AbstractContextManager
from types import TracebackType
from typing import IO, Protocol, TypeVar

from detectron2.structures import Instances

from ..utils.files import write_aside

Self = TypeVar("Self", bound="FileWriter")


class Writer(AbstractContextManager, Protocol):
    """Takes detections of one picture after the other, within a `with` block."""

    def add(self, name: str, instances: Instances) -> None:
        """Write the detections of a picture.

        Args:
            name: the picture's, as `Predictor.stream` gives it.
            instances: on the CPU, in pixels of the picture, whose size is `image_size`.
        """


class FileWriter:
    """Writes one text file, aside until the `with` block ends without an exception."""

    def __init__(self, path: str | os.PathLike):
        self._aside = write_aside(path)
        self._stream: IO[bytes] | None = None

    def __enter__(self: Self) -> Self:
        self._stream = self._aside.__enter__()
        self._begin()
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        if error_type is None:
            self._end()
        return self._aside.__exit__(error_type, error, traceback)

    def write(self, text: str) -> None:
        """Append a text, as UTF-8."""
        assert self._stream is not None, "a writer is used within a `with` block"
        self._stream.write(text.encode("utf-8"))

    def _begin(self) -> None:
        pass

    def _end(self) -> None:
        pass


class JsonListWriter(FileWriter):
    """Writes one json list, item by item, so that it need not fit into memory."""

    _number = 0

    def write_item(self, item: object) -> None:
        """Append what json can hold."""
        self.write(",\n" if self._number else "\n")
        self.write(json.dumps(item, ensure_ascii=False))
        self._number += 1

    def _begin(self) -> None:
        self.write("[")

    def _end(self) -> None:
        self.write("\n]\n")
