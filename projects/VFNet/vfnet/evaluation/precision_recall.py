"""Precision and recall of each class over the score: pycocotools' matches, as curves."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


class ClassCurve(NamedTuple):
    """How a class does, if detections from a score on are kept.

    name, num_gt: of the class; ground truths without crowds.
    scores: (S,), each score that was given, falling.
    precision, recall: (S,), of the detections with that score or a higher one, 0 to 1.
    ap: COCO's AP at this IoU, 0 to 1; NaN without ground truth.
    """

    name: str
    num_gt: int
    scores: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    ap: float

    def best_score(self) -> float:
        """The score from which on detections have the highest F1; NaN where none is above 0."""
        if not self.recall.any():
            return float("nan")
        total = np.maximum(self.precision + self.recall, 1e-12)
        return float(self.scores[(self.precision * self.recall / total).argmax()])


def precision_recall(
    scores: np.ndarray, is_true: np.ndarray, num_gt: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision and recall of the detections from each score on.

    Args:
        scores: (D,), in any order.
        is_true: (D,) bool, whether each is a match.
        num_gt: how many there are to find, at least 1.

    Returns:
        scores, falling, each once; precision; recall: (S,) each.
    """
    order = np.argsort(-scores, kind="stable")
    scores, true = scores[order], is_true[order].cumsum()
    kept = np.arange(1, len(scores) + 1)
    last = np.append(scores[1:] != scores[:-1], True)[: len(scores)]  # of detections that tie
    return scores[last], (true / kept)[last], true[last] / num_gt


def class_curves(
    ground_truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    iou: float = 0.5,
    detections_per_image: int = 100,
    category_ids: Sequence[int] | None = None,
) -> list[ClassCurve]:
    """The curves of all classes, by ascending id.

    Args:
        ground_truth: the content of a json file in COCO's format, with annotations.
        results: that of COCO's results, whose images are the ground truth's.
        iou: from which on a detection matches.
        detections_per_image: so many count, the best of each image and class.
        category_ids: of the classes; None: all of `ground_truth`.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
        truth = COCO()
        truth.dataset = dict(ground_truth)
        truth.createIndex()
        # It does not take an empty list of results.
        found = truth.loadRes([dict(result) for result in results]) if results else COCO()
        evaluation = COCOeval(truth, found, "bbox")
        parameters = evaluation.params
        parameters.iouThrs = np.array([iou])
        parameters.maxDets = [detections_per_image]
        parameters.areaRng, parameters.areaRngLbl = parameters.areaRng[:1], ["all"]
        parameters.catIds = list(category_ids or truth.getCatIds())
        parameters.imgIds = sorted(truth.getImgIds())
        evaluation.evaluate()
        evaluation.accumulate()
    images = len(parameters.imgIds)
    precision = evaluation.eval["precision"]  # (1 IoU, recalls, classes, 1 area, 1)
    return [
        _curve(
            truth.cats[id_]["name"],
            [image for image in evaluation.evalImgs[k * images : (k + 1) * images] if image],
            float(precision[0, :, k, 0, 0].mean()),
        )
        for k, id_ in enumerate(parameters.catIds)
    ]


def _curve(name: str, images: Sequence[Mapping[str, Any]], ap: float) -> ClassCurve:
    """One class, from what pycocotools found in each image; `ap` is -1 without ground truth."""
    num_gt = sum(int((np.asarray(image["gtIgnore"]) == 0).sum()) for image in images)
    counts = [~np.asarray(image["dtIgnore"][0], dtype=bool) for image in images]
    scores = [np.asarray(image["dtScores"])[kept] for image, kept in zip(images, counts)]
    true = [(np.asarray(image["dtMatches"][0]) > 0)[kept] for image, kept in zip(images, counts)]
    if num_gt == 0:
        nothing = np.zeros(0)
        return ClassCurve(name, 0, nothing, nothing, nothing, float("nan"))
    given, precision, recall = precision_recall(
        np.concatenate(scores), np.concatenate(true), num_gt
    )
    return ClassCurve(name, num_gt, given, precision, recall, ap)
