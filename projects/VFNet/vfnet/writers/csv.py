"""A table with a row for each detection."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence

from detectron2.structures import Instances

from ..utils.text import as_utf8
from .writer import FileWriter

COLUMNS = ("file", "width", "height", "class_id", "class", "score", "x1", "y1", "x2", "y2")


class CsvWriter(FileWriter):
    """Writes COLUMNS, comma-separated, in UTF-8; boxes are xyxy in pixels of the picture."""

    def __init__(self, path: str | os.PathLike, class_names: Sequence[str]):
        super().__init__(path)
        self._class_names = [as_utf8(name) for name in class_names]

    def _begin(self) -> None:
        self._write_row(COLUMNS)

    def add(self, name: str, instances: Instances) -> None:
        """As `Writer.add`."""
        height, width = instances.image_size
        columns = (instances.pred_classes, instances.scores, instances.pred_boxes.tensor)
        for index, score, box in zip(*(column.tolist() for column in columns)):
            class_name = self._class_names[index]
            self._write_row((as_utf8(name), width, height, index, class_name, score, *box))

    def _write_row(self, row: Sequence[object]) -> None:
        text = io.StringIO()
        csv.writer(text).writerow(row)
        self.write(text.getvalue())
