"""Detections written down: a class for each format, all used alike.

    with CocoWriter("results.json") as writer:
        for name, result in predictor.stream("pictures/"):
            writer.add(name, result["instances"])

A file is there, whole, when the block has ended without an exception (`write_aside`); a file for
each picture (YOLO) is written at once.
"""

from .coco import CocoIds, CocoWriter, read_coco_ids
from .csv import CsvWriter
from .records import RecordWriter, to_instances, to_record
from .writer import Writer
from .yolo import YoloWriter

__all__ = [
    "CocoIds",
    "CocoWriter",
    "CsvWriter",
    "RecordWriter",
    "Writer",
    "YoloWriter",
    "read_coco_ids",
    "to_instances",
    "to_record",
]
