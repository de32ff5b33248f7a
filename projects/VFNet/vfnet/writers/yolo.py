"""YOLO's labels: a text file for each picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from detectron2.structures import Instances

from ..errors import UserError
from ..utils.files import write_aside
from ..utils.text import printable


class YoloWriter:
    """Writes FOLDER/labels/NAME.txt, a line for each detection, and FOLDER/classes.txt.

    A line is "class x y width height score": the id, the box's centre and size as shares of the
    picture's width and height, and the score, as Ultralytics writes them with save_conf. A picture
    without detections has an empty file.
    """

    def __init__(self, folder: str | os.PathLike, class_names: Sequence[str], scores: bool = True):
        """`scores`: whether to write them; labels to train on have none."""
        self._folder = Path(folder)
        self._class_names = class_names
        self._scores = scores
        self._written: dict[str, str] = {}

    def __enter__(self) -> YoloWriter:
        (self._folder / "labels").mkdir(parents=True, exist_ok=True)
        with write_aside(self._folder / "classes.txt") as stream:
            # A line each, whatever they hold.
            lines = [printable(name) + "\n" for name in self._class_names]
            stream.write("".join(lines).encode("utf-8"))
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def add(self, name: str, instances: Instances) -> None:
        """As `Writer.add`.

        Raises:
            UserError: another picture has the same name, but for its folder or ending.
        """
        file = _claim_label_file(name, self._written)
        height, width = instances.image_size
        lines = []
        columns = (instances.pred_classes, instances.scores, instances.pred_boxes.tensor)
        for index, score, (x1, y1, x2, y2) in zip(*(column.tolist() for column in columns)):
            shares = [(x1 + x2) / 2 / width, (y1 + y2) / 2 / height]
            shares += [(x2 - x1) / width, (y2 - y1) / height]
            numbers = [f"{value:.6f}" for value in (*shares, *([score] if self._scores else []))]
            lines.append(f"{index} {' '.join(numbers)}\n")
        with write_aside(self._folder / "labels" / file) as stream:
            stream.write("".join(lines).encode("ascii"))


def label_file(name: str) -> str:
    """Return the name of a picture's label file; of a video's frame FILE#NUMBER it is FILE_NUMBER.

    So two videos and their frames differ, and a.mp4#000001 is a_000001.txt.
    """
    path, mark, frame = name.rpartition("#")
    if mark and frame.isdigit():
        return f"{Path(path).stem}_{frame}.txt"
    return f"{Path(name).stem}.txt"


def check_label_files(names: Sequence[str]) -> None:
    """Raise a UserError where two pictures or videos would have one label file."""
    written: dict[str, str] = {}
    for name in names:
        _claim_label_file(name, written)


def _claim_label_file(name: str, written: dict[str, str]) -> str:
    file = label_file(name)
    if written.setdefault(file, name) != name:
        raise UserError(
            f"{printable(written[file])} and {printable(name)} would both be written to "
            f"labels/{printable(file)}: run them apart, into different folders"
        )
    return file
