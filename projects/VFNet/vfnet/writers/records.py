"""predictions.json: for each picture its name, its size and its detections, with class names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from detectron2.structures import Boxes, Instances

from ..utils.text import as_utf8
from .writer import JsonListWriter


def to_record(name: str, instances: Instances, class_names: Sequence[str]) -> dict[str, Any]:
    """Turn detections into what json holds of them; "box" is xyxy in pixels of the picture."""
    height, width = instances.image_size
    columns = (instances.pred_classes, instances.scores, instances.pred_boxes.tensor)
    detections = [
        {"class": as_utf8(class_names[index]), "class_id": index, "score": score, "box": box}
        for index, score, box in zip(*(column.tolist() for column in columns))
    ]
    return {"file": as_utf8(name), "width": width, "height": height, "detections": detections}


def to_instances(record: dict[str, Any]) -> Instances:
    """Return the detections of a record, as they were."""
    found = record["detections"]
    boxes = torch.tensor([d["box"] for d in found], dtype=torch.float32).reshape(-1, 4)
    return Instances(
        (record["height"], record["width"]),
        pred_boxes=Boxes(boxes),
        scores=torch.tensor([d["score"] for d in found], dtype=torch.float32),
        pred_classes=torch.tensor([d["class_id"] for d in found], dtype=torch.int64),
    )


class RecordWriter(JsonListWriter):
    """Writes predictions.json: a list with a record of each picture."""

    def __init__(self, path: str | os.PathLike, class_names: Sequence[str]):
        super().__init__(path)
        self._class_names = class_names

    def add(self, name: str, instances: Instances) -> None:
        """As `Writer.add`."""
        self.write_item(to_record(name, instances, self._class_names))
