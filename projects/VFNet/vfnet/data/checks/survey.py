"""A data set in numbers, with all that is wrong with it and all that is probably not meant."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .boxes import corners, describe_findings, describe_nothing, inspect_boxes, objects_of
from .duplicates import describe_repeated, picture_keys
from .oddities import describe_crowds, describe_excess, describe_unit
from .pictures import describe_problems, describe_turned, inspect_pictures

Record = dict[str, Any]


class Boxes(NamedTuple):
    """The objects of a data set, M of them: what can be learned, clipped to the pictures."""

    sizes: np.ndarray  # (M, 2), width and height in pixels of the picture
    classes: np.ndarray  # (M,) int64
    pictures: np.ndarray  # (M,) int64, the number of the record


class Survey(NamedTuple):
    """What `survey` found."""

    counts: dict[str, int]  # by what is counted, in the order to show them in
    boxes: Boxes
    records: list[Record]  # with usable boxes only
    errors: list[str]  # a run would refuse these
    warnings: list[str]


def survey(
    name: str, records: Sequence[Record], detections_per_image: int, decode: bool = False
) -> Survey:
    """Look at a data set with the checks that a run makes.

    Args:
        name: of the data set, for the messages.
        records: dataset dicts that `register_coco_format` registered.
        detections_per_image: TEST.DETECTIONS_PER_IMAGE.
        decode: decode all pictures, and not only their headers.
    """
    problems, turned = inspect_pictures(records, decode)
    cleaned, findings = inspect_boxes(records)
    keys = picture_keys(record["file_name"] for record in records)
    boxes = _collect(cleaned)
    annotated = sum(len(record["annotations"]) for record in records)
    objects = np.bincount(boxes.pictures, minlength=len(records))
    kinds = Counter(problem.kind for problem in problems)
    counts = {
        "pictures": len(records),
        "pictures without an object": int((objects == 0).sum()),
        "most objects in a picture": int(objects.max(initial=0)),
        "pictures missing": kinds["missing"],
        "pictures unreadable": kinds["unreadable"],
        "pictures of another size": kinds["of another size"],
        "pictures of 16 bits": kinds["16 bits"],
        "pictures too large": kinds["too large"],
        "pictures turned by EXIF": len(turned),
        "pictures with several records": sum(n > 1 for n in _per_picture(records, keys).values()),
        "boxes": annotated,
        "boxes of crowds": annotated - sum(len(objects_of(record)) for record in records),
        "boxes without area": len(findings["empty"]),
        "boxes outside": len(findings["outside"]),
        "boxes that stick out": len(findings["protruding"]),
    }
    errors = [describe_problems(problems, len(records))] if problems else []
    if annotated and not len(boxes.classes):
        errors.append(describe_nothing([name], records))
    warnings = [
        "no annotations: detections can be made, but nothing can be learned" * (not annotated),
        describe_turned(turned),
        describe_findings(findings, "left out in training", "clipped in training"),
        describe_unit(records),
        describe_crowds(records),
        describe_excess(records, detections_per_image),
        describe_repeated(records, keys),
    ]
    return Survey(counts, boxes, cleaned, errors, [line for line in warnings if line])


def _collect(records: Sequence[Record]) -> Boxes:
    rows = [
        (x1 - x0, y1 - y0, annotation["category_id"], number)
        for number, record in enumerate(records)
        for annotation in objects_of(record)
        for x0, y0, x1, y1 in [corners(annotation, record["file_name"])]
    ]
    table = np.array(rows, dtype=np.float64).reshape(-1, 4)
    return Boxes(table[:, :2], table[:, 2].astype(np.int64), table[:, 3].astype(np.int64))


def _per_picture(records: Sequence[Record], keys: dict[str, str]) -> Counter[str]:
    return Counter(keys[record["file_name"]] for record in records)
