"""Boxes that a detector cannot learn from: found, counted, named, and taken out or clipped."""

import logging
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from detectron2.structures import BoxMode

from ...errors import UserError
from .report import name_first

logger = logging.getLogger(__name__)

Record = dict[str, Any]
Box = tuple[float, float, float, float]
# What was found, by kind, each as text that names the picture and the box.
Findings = defaultdict[str, list[str]]
# Pixels. Less than this beyond the border is rounding, of files with two decimals and of sums.
_TOLERANCE = 0.01


def clean_boxes(records: Sequence[Record], strict: bool = False) -> list[Record]:
    """Leave out empty boxes and boxes outside their image, clip those that stick out of it.

    All are counted and the first ten named in one warning. Crowd annotations and records without
    annotations are returned as they are; the input is not changed.

    Args:
        records: dataset dicts of Detectron2, boxes in mode XYWH_ABS or XYXY_ABS.
        strict: make these boxes errors.

    Raises:
        UserError: a box that is not finite or has a negative side, always; with `strict` any box
            that would be left out or clipped; a record without width and height; another bbox_mode.
    """
    cleaned, findings = inspect_boxes(records)
    message = describe_findings(findings, "left out", "clipped")
    if message and strict:
        raise UserError(
            f"DATASETS.STRICT: {message}. Fix the annotations, or set DATASETS.STRICT False to "
            "leave such boxes out and clip those that stick out"
        )
    if message:
        logger.warning(message)
    return cleaned


def describe_bad_boxes(records: Sequence[Record], strict: bool = False) -> str:
    """Say which boxes of data to evaluate on are empty, outside or stick out; "" for none.

    COCO's evaluation reads the json file itself, so here nothing is left out or clipped.

    Raises:
        UserError: as `clean_boxes`.
    """
    message = describe_findings(
        inspect_boxes(records)[1],
        "that no detection matches, which COCO's evaluation counts",
        "which COCO's evaluation does not clip",
    )
    if message and strict:
        raise UserError(
            f"DATASETS.STRICT: {message}. Fix the annotations, or set DATASETS.STRICT False to "
            "evaluate with such boxes"
        )
    return message


def inspect_boxes(records: Sequence[Record]) -> tuple[list[Record], Findings]:
    """Return the records with usable boxes, and what was found wrong with the others.

    The kinds of findings are "empty", "outside" and "protruding".

    Raises:
        UserError: as `clean_boxes`, without `strict`.
    """
    findings: Findings = defaultdict(list)
    cleaned = [_clean_record(record, findings) for record in records]
    if invalid := findings["invalid"]:
        raise UserError(
            f"{len(invalid)} boxes are not finite or have a negative side: {name_first(invalid)}. "
            "Fix the annotations"
        )
    return cleaned, findings


def describe_findings(findings: Findings, left_out_how: str, clipped_how: str) -> str:
    """Say what `inspect_boxes` found, and what becomes of it; "" for nothing."""
    parts = []
    empty, outside, protruding = (findings[kind] for kind in ("empty", "outside", "protruding"))
    if left_out := empty + outside:
        parts.append(
            f"{len(left_out)} boxes {left_out_how} ({len(empty)} empty, {len(outside)} outside "
            f"their image): {name_first(left_out)}"
        )
    if protruding:
        parts.append(
            f"{len(protruding)} boxes stick out of their image, {clipped_how}: "
            f"{name_first(protruding)}"
        )
    return ". ".join(parts)


def _clean_record(record: Record, findings: Findings) -> Record:
    if "annotations" not in record:
        return record
    if "width" not in record or "height" not in record:
        raise UserError(f"The record of {record['file_name']} needs its width and height")
    cleaned = [_clean_annotation(a, record, findings) for a in record["annotations"]]
    return {**record, "annotations": [a for a in cleaned if a is not None]}


def _clean_annotation(annotation: dict, record: Record, findings: Findings) -> dict | None:
    if is_crowd(annotation):
        return annotation
    name = f"{record['file_name']} {list(annotation['bbox'])}"
    box = corners(annotation, name)
    x0, y0, x1, y1 = box
    if not all(map(math.isfinite, box)) or x1 < x0 or y1 < y0:
        findings["invalid"].append(name)
        return None
    if x1 == x0 or y1 == y0:
        findings["empty"].append(name)
        return None
    clipped = _clip(box, record["width"], record["height"])
    if clipped[2] <= clipped[0] or clipped[3] <= clipped[1]:
        findings["outside"].append(name)
        return None
    if clipped == box:
        return annotation
    if max(abs(a - b) for a, b in zip(clipped, box)) > _TOLERANCE:
        findings["protruding"].append(name)
    return {**annotation, "bbox": list(clipped), "bbox_mode": BoxMode.XYXY_ABS}


def describe_nothing(names: Sequence[str], records: Sequence[Record]) -> str:
    """Say why no box of the data sets can be learned from, where none can."""
    boxes = sum(len(record["annotations"]) for record in records)
    objects = sum(len(objects_of(record)) for record in records)
    return (
        f"No image of {', '.join(names)} has a usable box: of {boxes} boxes {boxes - objects} are "
        f"crowds (iscrowd 1), which are not learned, and {objects} are empty or outside their "
        "image. Fix the annotations"
    )


def objects_of(record: Record) -> list[dict[str, Any]]:
    """Return the annotations of a record that can become ground truth: all but crowds."""
    return [a for a in record["annotations"] if not is_crowd(a)]


def is_crowd(annotation: dict[str, Any]) -> bool:
    """Whether an annotation is marked as a crowd; without "iscrowd" it is none."""
    return bool(annotation.get("iscrowd", 0))


def corners(annotation: dict, name: str) -> Box:
    """Return (x0, y0, x1, y1) of an annotation's box; `name` is for the message of another mode."""
    # Not BoxMode.convert: it computes in float32, which moves corners beyond borders.
    a, b, c, d = map(float, annotation["bbox"])
    if annotation["bbox_mode"] == BoxMode.XYWH_ABS:
        return a, b, a + c, b + d
    if annotation["bbox_mode"] == BoxMode.XYXY_ABS:
        return a, b, c, d
    raise UserError(f"{name}: bbox_mode has to be XYWH_ABS or XYXY_ABS")


def _clip(box: Box, width: float, height: float) -> Box:
    x0, y0, x1, y1 = box
    return max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))
