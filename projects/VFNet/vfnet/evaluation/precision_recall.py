"""Precision and recall of each class over the score: pycocotools' matches, as curves."""

import contextlib
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from detectron2.evaluation.fast_eval_api import COCOeval_opt
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
    truth, evaluation = _evaluation_of(COCOeval, ground_truth, results, category_ids)
    parameters = evaluation.params
    parameters.iouThrs = np.array([iou])
    parameters.maxDets = [detections_per_image]
    parameters.areaRng, parameters.areaRngLbl = parameters.areaRng[:1], ["all"]
    _run(evaluation)
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


class ClassScore(NamedTuple):
    """A class' ground truths, without crowds, and its COCO's APs, 0 to 1; NaN without any.

    by_size: of small, medium and large objects.
    """

    name: str
    num_gt: int
    ap: float
    ap50: float
    by_size: tuple[float, ...]


def class_scores(
    ground_truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    detections_per_image: int = 100,
    category_ids: Sequence[int] | None = None,
) -> list[ClassScore]:
    """COCO's AP of all classes by size, by ascending id; for the arguments see `class_curves`."""
    truth, evaluation = _evaluation_of(COCOeval_opt, ground_truth, results, category_ids)
    evaluation.params.maxDets = [detections_per_image]
    _run(evaluation)
    precision = evaluation.eval["precision"][..., 0]  # (IoUs, recalls, classes, areas)
    counts = Counter(a["category_id"] for a in truth.anns.values() if not a.get("iscrowd", 0))

    def mean(values: np.ndarray) -> float:  # -1: no ground truth
        return float(values.mean()) if (values > -1).all() else float("nan")

    return [
        ClassScore(
            truth.cats[id_]["name"],
            counts[id_],
            mean(precision[:, :, k, 0]),
            mean(precision[0, :, k, 0]),
            tuple(mean(precision[:, :, k, area]) for area in (1, 2, 3)),
        )
        for k, id_ in enumerate(evaluation.params.catIds)
    ]


def _evaluation_of(
    kind: type[COCOeval],
    ground_truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    category_ids: Sequence[int] | None,
) -> tuple[COCO, COCOeval]:
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
        truth = COCO()
        truth.dataset = dict(ground_truth)
        truth.createIndex()
        # It does not take an empty list of results.
        found = truth.loadRes([dict(result) for result in results]) if results else COCO()
        evaluation = kind(truth, found, "bbox")
    evaluation.params.catIds = list(category_ids or truth.getCatIds())
    evaluation.params.imgIds = sorted(truth.getImgIds())
    return truth, evaluation


def _run(evaluation: COCOeval) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()


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
