"""What is allowed in a data set and probably not meant: the unit of boxes, crowds, too many."""

from collections.abc import Sequence
from typing import Any

from .boxes import corners, objects_of
from .report import name_first

Record = dict[str, Any]
# Share of the boxes from which on a finding concerns the data set, not some boxes.
_MOST = 0.5


def describe_unit(records: Sequence[Record]) -> str:
    """Say that most boxes have no side above a pixel, as shares of the picture have; else ""."""
    boxes = [
        (
            f"{record['file_name']} {list(annotation['bbox'])}",
            corners(annotation, record["file_name"]),
        )
        for record in records
        for annotation in objects_of(record)
    ]
    small = [name for name, (x0, y0, x1, y1) in boxes if max(x1 - x0, y1 - y0) <= 1]
    if len(small) <= _MOST * len(boxes):
        return ""
    return (
        f"{len(small)} of {len(boxes)} boxes are at most a pixel wide and high, as shares of the "
        f"picture (0 to 1) would be: {name_first(small, limit=3)}. Boxes have to be in pixels"
    )


def describe_crowds(records: Sequence[Record]) -> str:
    """Say that most boxes are crowds; else ""."""
    count = sum(len(record["annotations"]) for record in records)
    crowds = count - sum(len(objects_of(record)) for record in records)
    if crowds <= _MOST * count:
        return ""
    return (
        f"{crowds} of {count} boxes are crowds (iscrowd 1), which are neither learned nor counted "
        "in AP: set iscrowd to 0 where a box holds one object"
    )


def describe_excess(records: Sequence[Record], detections_per_image: int) -> str:
    """Say which pictures hold more objects than TEST.DETECTIONS_PER_IMAGE; "" for none."""
    counts = sorted(((len(objects_of(r)), r["file_name"]) for r in records), reverse=True)
    above = [f"{count} in {name}" for count, name in counts if count > detections_per_image]
    if not above:
        return ""
    return (
        f"{len(above)} of {len(records)} pictures hold more objects than are kept as detections "
        f"(TEST.DETECTIONS_PER_IMAGE {detections_per_image}): {name_first(above, limit=3)}. "
        "Raise it to find them all"
    )
