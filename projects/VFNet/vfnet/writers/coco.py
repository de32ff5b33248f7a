"""COCO's result json, which COCO's own tools and `tools/draw_predictions.py` read."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

from detectron2.structures import Instances

from ..data.checks.coco_json import check_coco_content
from ..data.datasets.coco_file import empty_parents, read_coco_file, without_categories
from ..errors import UserError
from ..evaluation.submission import ImageDetections, coco_entries
from ..utils.files import write_aside
from ..utils.text import as_utf8, printable
from .writer import JsonListWriter


class CocoIds(NamedTuple):
    """The ids of a data set: of each class, by its number; of each picture, by its file name."""

    category_ids: Sequence[int]
    image_ids: Mapping[str, int]

    def image_id(self, name: str) -> int:
        """Return the id of a picture by its path, or the end of it that the data set knows.

        Raises:
            UserError: the data set has no such picture.
        """
        parts = PurePath(name).parts
        for start in range(len(parts)):
            file_name = PurePath(*parts[start:]).as_posix()
            if file_name in self.image_ids:
                return self.image_ids[file_name]
        raise UserError(f"{printable(name)} is no picture of the COCO json that gives the ids")

    def check_pictures(self, names: Iterable[str]) -> None:
        """Check that each picture has an id of its own.

        Raises:
            UserError: one has none (`image_id`), or two have the same.
        """
        taken: dict[int, str] = {}
        for name in names:
            other = taken.setdefault(self.image_id(name), name)
            if other != name:
                raise UserError(
                    f"{printable(other)} and {printable(name)} are the same picture in the COCO "
                    "json that gives the ids: name only those that it holds"
                )


def read_coco_ids(json_file: str, class_names: Sequence[str]) -> CocoIds:
    """Read the ids of a data set in COCO's format.

    Raises:
        UserError: it is none (`read_coco_file`, `check_coco_content`), or a class has no category
            of its name.
    """
    content = read_coco_file(json_file).content
    content = without_categories(content, empty_parents([content], class_names))
    by_name = {name: index for index, name in check_coco_content(json_file, content).items()}
    missing = [name for name in class_names if name not in by_name]
    if missing:
        raise UserError(
            f"{json_file} has no category for {len(missing)} of {len(class_names)} classes, "
            f"the first {printable(missing[0])!r}: give the json of the same classes"
        )
    image_ids = {image["file_name"]: image["id"] for image in content["images"]}
    return CocoIds([by_name[name] for name in class_names], image_ids)


class CocoWriter(JsonListWriter):
    """Writes a list of {"image_id", "category_id", "bbox", "score"}: see `coco_entries`.

    Without `CocoIds`, pictures are numbered from 1 in the order in which they come, and classes by
    `category_ids`. Which number is which picture stands in the file of `images_path`.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        class_names: Sequence[str],
        category_ids: Sequence[int] | None = None,
        ids: CocoIds | None = None,
        images_path: str | os.PathLike | None = None,
    ):
        """
        Args:
            path: the json file.
            class_names: of the classes.
            category_ids: the data set's id of each class; None: from 1, in the order of classes.
            ids: of a data set that holds the pictures; it goes before `category_ids`.
            images_path: where to write a data set of the pictures and categories, without
                annotations: the ground truth that COCO's tools ask for, to load the results into.
        """
        super().__init__(path)
        numbers = category_ids or range(1, len(class_names) + 1)
        self._category_ids = list(ids.category_ids if ids else numbers)
        self._class_names = class_names
        self._ids = ids
        self._images_path = images_path
        self._images: list[dict[str, Any]] = []

    def add(self, name: str, instances: Instances) -> None:
        """As `Writer.add`.

        Raises:
            UserError: the data set has no such picture.
        """
        height, width = instances.image_size
        image_id = self._ids.image_id(name) if self._ids else len(self._images) + 1
        image = {"id": image_id, "file_name": as_utf8(name), "width": width, "height": height}
        self._images.append(image)
        found = ImageDetections(
            image_id,
            instances.pred_boxes.tensor.numpy(),
            instances.scores.numpy(),
            instances.pred_classes.numpy(),
        )
        for entry in coco_entries(found, self._category_ids):
            self.write_item(entry)

    def _end(self) -> None:
        super()._end()
        if self._images_path is None:
            return
        categories = [
            {"id": index, "name": as_utf8(name)}
            for index, name in zip(self._category_ids, self._class_names)
        ]
        content = {"images": self._images, "annotations": [], "categories": categories}
        with write_aside(self._images_path) as stream:
            stream.write(json.dumps(content, ensure_ascii=False).encode("utf-8"))
