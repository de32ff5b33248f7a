"""What is allowed in a data set and probably not meant: the unit of boxes, crowds, too many."""

from collections.abc import Iterator, Sequence
from typing import Any

from .boxes import corners
from .report import name_first

Record = dict[str, Any]
# Share of the boxes from which on a finding concerns the data set, not some boxes.
_MOST = 0.5


def describe_unit(records: Sequence[Record]) -> str:
    """Say that most boxes have no side above a pixel, as shares of the picture have; else ""."""
    names = [
        f"{record['file_name']} {list(annotation['bbox'])}"
        for record, annotation in _objects(records)
        if _is_within_a_pixel(annotation)
    ]
    count = sum(1 for _ in _objects(records))
    if len(names) <= _MOST * count:
        return ""
    return (
        f"{len(names)} of {count} boxes are at most a pixel wide and high, as shares of the "
        f"picture (0 to 1) would be: {name_first(names, limit=3)}. Boxes have to be in pixels"
    )


def describe_crowds(records: Sequence[Record]) -> str:
    """Say that most boxes are crowds; else ""."""
    count = sum(len(record["annotations"]) for record in records)
    crowds = count - sum(1 for _ in _objects(records))
    if crowds <= _MOST * count:
        return ""
    return (
        f"{crowds} of {count} boxes are crowds (iscrowd 1), which are neither learned nor counted "
        "in AP: set iscrowd to 0 where a box holds one object"
    )


def describe_excess(records: Sequence[Record], detections_per_image: int) -> str:
    """Say which pictures hold more objects than TEST.DETECTIONS_PER_IMAGE; "" for none."""
    counts = [(sum(1 for _ in _objects([r])), r["file_name"]) for r in records]
    above = sorted((c for c in counts if c[0] > detections_per_image), reverse=True)
    if not above:
        return ""
    return (
        f"{len(above)} of {len(records)} pictures hold more objects than are kept as detections "
        f"(TEST.DETECTIONS_PER_IMAGE {detections_per_image}): "
        f"{name_first(above, lambda c: f'{c[0]} in {c[1]}', limit=3)}. Raise it to find them all"
    )


def _objects(records: Sequence[Record]) -> Iterator[tuple[Record, dict[str, Any]]]:
    """All annotations but crowds, with their record."""
    for record in records:
        for annotation in record["annotations"]:
            if not annotation.get("iscrowd", 0):
                yield record, annotation


def _is_within_a_pixel(annotation: dict[str, Any]) -> bool:
    x0, y0, x1, y1 = corners(annotation, "a box")
    return x1 - x0 <= 1 and y1 - y0 <= 1
