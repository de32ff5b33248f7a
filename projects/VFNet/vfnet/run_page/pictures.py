"""Test pictures of a run, ground truth and detections, those with the most errors first."""

import base64
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from detectron2.data import DatasetCatalog
from detectron2.utils.file_io import PathManager
from PIL import Image
from torchvision.ops import box_convert, box_iou

from ..data import read_picture
from ..evaluation.precision_recall import ClassCurve
from ..inspection.run import Evaluation
from ..visualization import draw_boxes

WORST, OTHERS = 4, 2
_IOU = 0.5
# Below it nothing is drawn, however little a detector has learnt.
_LOWEST_SCORE = 0.05
_MOST_BOXES = 100
# Of a picture on the page, in pixels.
_LONGEST_EDGE = 640


class Boxes(NamedTuple):
    """(N, 4) xyxy in pixels, N indices of classes, N scores (1 of ground truth)."""

    boxes: torch.Tensor
    classes: torch.Tensor
    scores: torch.Tensor


class Errors(NamedTuple):
    """What a detector did in an image: ground truths, those it missed, detections of nothing."""

    objects: int
    missed: int
    false: int


class Shown(NamedTuple):
    """A picture on the page: its file, what was wrong, two pictures as `data:` URLs."""

    file: str
    errors: Errors
    truth: str
    found: str


def shown_pictures(evaluation: Evaluation, curves: Sequence[ClassCurve]) -> list[Shown]:
    """Draw the pictures with the most errors, then some others, spread over the test set.

    Detections count from the score on at which the F1 of their class is best. Pictures that are
    not there are left out.

    Raises:
        UserError: a picture cannot be read.
    """
    records = {record["image_id"]: record for record in DatasetCatalog.get(evaluation.dataset)}
    names = [curve.name for curve in curves]
    ids = evaluation.category_ids or sorted(c["id"] for c in evaluation.truth["categories"])
    numbers = {id_: number for number, id_ in enumerate(ids)}
    lowest = {id_: max(_LOWEST_SCORE, curve.best_score()) for id_, curve in zip(ids, curves)}
    kept = [r for r in evaluation.results if r["score"] >= lowest.get(r["category_id"], 2.0)]
    truths = [a for a in evaluation.truth["annotations"] if not a.get("iscrowd", 0)]
    found, truth = _by_image(kept, numbers), _by_image(truths, numbers)
    errors = {id_: count_errors(truth[id_], found[id_]) for id_ in records}
    order = sorted(errors, key=lambda id_: -errors[id_].missed - errors[id_].false)
    others = order[WORST:][:: max(1, (len(order) - WORST) // OTHERS)]
    chosen = order[:WORST] + others
    return [
        _show(records[id_], errors[id_], truth[id_], found[id_], names)
        for id_ in chosen[: WORST + OTHERS]
        if PathManager.isfile(records[id_]["file_name"])
    ]


def count_errors(truth: Boxes, found: Boxes) -> Errors:
    """Compare boxes of one class at IoU 0.5: ground truths that none found, and the reverse."""
    overlap = box_iou(truth.boxes, found.boxes) >= _IOU
    overlap &= truth.classes[:, None] == found.classes
    return Errors(len(truth.boxes), int((~overlap.any(1)).sum()), int((~overlap.any(0)).sum()))


def _by_image(items: Sequence[Mapping[str, Any]], numbers: Mapping[int, int]) -> dict[Any, Boxes]:
    """Annotations or results in COCO's format, by image; of an image without any, none."""
    rows: dict[Any, list[tuple[float, ...]]] = defaultdict(list)
    for item in items:
        if item["category_id"] in numbers:
            row = (*item["bbox"], numbers[item["category_id"]], item.get("score", 1.0))
            rows[item["image_id"]].append(row)
    boxes: dict[Any, Boxes] = defaultdict(lambda: _boxes([]))
    boxes.update({id_: _boxes(table) for id_, table in rows.items()})
    return boxes


def _boxes(rows: Sequence[tuple[float, ...]]) -> Boxes:
    table = torch.tensor(rows, dtype=torch.float64).reshape(-1, 6)
    return Boxes(box_convert(table[:, :4], "xywh", "xyxy"), table[:, 4].long(), table[:, 5])


def _show(
    record: Mapping[str, Any], errors: Errors, truth: Boxes, found: Boxes, names: Sequence[str]
) -> Shown:
    image = read_picture(record["file_name"], "RGB")
    scale = min(1.0, _LONGEST_EDGE / max(image.shape[:2]))

    def drawn(boxes: Boxes, with_scores: bool) -> str:
        best = boxes.scores.argsort(descending=True, stable=True)[:_MOST_BOXES]
        scores = boxes.scores[best].tolist() if with_scores else None
        corners, classes = boxes.boxes[best].numpy(), boxes.classes[best].tolist()
        return _data_url(draw_boxes(image, corners, classes, names, scores, scale))

    return Shown(record["file_name"], errors, drawn(truth, False), drawn(found, True))


def _data_url(image: np.ndarray) -> str:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
