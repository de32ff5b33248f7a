"""What a run has done so far, line by line: after a kill it goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.structures import Instances

from ..errors import UserError
from ..utils.text import as_utf8
from .records import to_instances, to_record

# What lines raise that are no json, or another json.
_DAMAGED = (
    *(AttributeError, IndexError, KeyError, RuntimeError),  # RecursionError is one of the last
    *(TypeError, ValueError),
)


class Journal:
    """A file of json lines: the settings of the run, then a record of each picture done.

    A line is written when all else of its picture is. So whatever ends the run, what the file
    holds is done, but for a last line that is torn.
    """

    def __init__(self, path: Path, settings: dict[str, Any], class_names: Sequence[str]):
        """`settings`: what json can hold, and what a run that goes on must have the same."""
        self.path = path
        self._settings = json.loads(json.dumps(settings))
        self._class_names = class_names
        self._records: dict[str, Instances] = {}

    def resume(self) -> int:
        """Take over what an earlier run has done; return the number of its pictures.

        Raises:
            UserError: the earlier run had other settings, or the file is damaged.
        """
        if not self.path.is_file():
            return 0
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        try:
            first, *records = [json.loads(line) for line in whole.splitlines()] or [None]
            settings = dict(first["settings"]) if first is not None else self._settings
            self._records = {str(record["file"]): to_instances(record) for record in records}
        except _DAMAGED as error:
            raise UserError(
                f"{self.path} is no record of a run ({error}): delete it, start anew"
            ) from None
        for name in settings.keys() | self._settings.keys():
            before, now = settings.get(name), self._settings.get(name)
            if before != now:
                raise UserError(
                    f"--resume goes on with the same settings only, and {name} was {before}, now "
                    f"it is {now}: give it as before, or start anew without --resume"
                )
        with open(self.path, "r+b") as stream:
            stream.truncate(len(whole))
        return len(self._records)

    def find(self, name: str) -> Instances | None:
        """Return the detections of a picture that is done already; None for others."""
        return self._records.get(as_utf8(name))

    def __enter__(self) -> Journal:
        self._stream = open(self.path, "ab" if self._records else "wb")
        if not self._records:
            self._write({"settings": self._settings})
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def add(self, name: str, instances: Instances) -> None:
        """Note that a picture is done."""
        self._write(to_record(name, instances, self._class_names))

    def _write(self, content: dict[str, Any]) -> None:
        self._stream.write(json.dumps(content, ensure_ascii=False).encode("utf-8") + b"\n")
        self._stream.flush()
