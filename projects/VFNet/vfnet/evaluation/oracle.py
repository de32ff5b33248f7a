"""The oracle study of the paper's Table 1: what a perfect part of the predictions would be worth.

Predictions are replaced by ground truth at the positive locations, before candidates are chosen
and suppressed; background keeps its predictions. Which locations are positive, and of which ground
truth, is what the training assignment says. Nothing is trained.

The rows with centerness are those of a detector that predicts one, such as ATSS.
"""

import contextlib
import io
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog, build_detection_test_loader
from detectron2.evaluation import DatasetEvaluator, inference_context
from detectron2.modeling.postprocessing import detector_postprocess
from torch import Tensor, nn

from ..config import detector_key, detector_node
from ..data import build_mapper, check_datasets, check_images
from ..data.checks.boxes import clean_boxes
from ..errors import UserError
from ..modeling.box_coding import boxes_to_distances
from ..modeling.losses.box import centerness, iou_and_giou, iou_weighted_giou_loss
from ..modeling.matching.targets import Targets
from ..modeling.meta_arch.dense import LocationDetector
from .evaluator import build_evaluator

# The rows. With "_only", the other classes of a positive location get the score 0; without it,
# they keep their scores. The paper replaces "the element at the ground-truth label position".
KINDS = ("plain", "gt_bbox", "gt_cls", "gt_cls_only", "gt_cls_iou", "gt_cls_iou_only")
# More rows where the detector predicts a centerness, each with what is replaced of scores and
# boxes. The rows above leave the centerness out; here scores are multiplied by it: the predicted
# one or, at the positive locations, the true one ("gt_ctr") or the detected box's IoU
# ("gt_ctr_iou").
CENTERNESS_KINDS = {
    "plain_ctr": "plain",
    "gt_ctr": "plain",
    "gt_ctr_iou": "plain",
    "gt_bbox_ctr": "gt_bbox",
    "gt_cls_ctr": "gt_cls",
    "gt_cls_iou_ctr": "gt_cls_iou",
}
METRICS = ("AP", "AP50", "AP75")


def oracle_replacement(
    scores: Tensor, boxes: Tensor, targets: Targets, kind: str
) -> tuple[Tensor, Tensor]:
    """Replace scores or boxes by ground truth at the positive locations (paper, Table 1).

    Args:
        scores, boxes: (N R, K), (N R, 4) of `LocationDetector.scores` and `detected_boxes`; not
            changed.
        targets: of the N images.
        kind: "plain": nothing is replaced. "gt_bbox": the detected box becomes the ground-truth
            box. "gt_cls": the score of the ground-truth class becomes 1, so that all locations of
            an object tie and suppression cannot tell which has the best box. "gt_cls_iou": it
            becomes the IoU of the detected box with the ground-truth box, as in training: not
            clipped to the image, at least 1e-6. "gt_cls_only", "gt_cls_iou_only": the scores of
            all other classes also become 0.

    Returns:
        scores, boxes.
    """
    if kind not in KINDS:
        raise UserError(f"expected a kind among {', '.join(KINDS)}; got {kind!r}")
    positive = targets.index
    if kind == "gt_bbox":
        boxes = boxes.clone()
        boxes[positive] = targets.boxes
    elif kind != "plain":
        scores = scores.clone()
        if kind.endswith("_only"):
            scores[positive] = 0.0
        if kind.startswith("gt_cls_iou"):
            _, ious = iou_weighted_giou_loss(boxes[positive], targets.boxes)  # (P,)
            scores[positive, targets.classes] = ious
        else:
            scores[positive, targets.classes] = 1.0
    return scores, boxes


def oracle_centerness(
    factor: Tensor, boxes: Tensor, points: Tensor, targets: Targets, kind: str
) -> Tensor:
    """Replace the centerness at the positive locations (paper, Table 1, "w/ctr").

    Args:
        factor, boxes: (N R,), (N R, 4) of `LocationDetector.score_factor` and `detected_boxes`; not
            changed.
        points: (R, 2), where the locations stand, in pixels.
        targets: of the N images.
        kind: "gt_ctr": by the true one. "gt_ctr_iou": by the IoU of the detected box. Others:
            nothing is replaced.

    Returns:
        (N R,).
    """
    if kind not in ("gt_ctr", "gt_ctr_iou"):
        return factor
    positive, factor = targets.index, factor.clone()
    if kind == "gt_ctr":
        distances = boxes_to_distances(points[positive % len(points)], targets.boxes)
        factor[positive] = centerness(distances)
    else:
        factor[positive] = iou_and_giou(boxes[positive], targets.boxes)[0]
    return factor


def check_oracle_model(model: nn.Module) -> None:
    """Raise a UserError if there is nothing in a model's predictions that the study replaces."""
    if not isinstance(model, LocationDetector):
        raise UserError(
            "the oracle study needs a detector whose locations predict boxes, such as "
            f"MODEL.META_ARCHITECTURE VFNet; got {type(model).__name__}"
        )


def oracle_detections(
    model: LocationDetector, batch: list[dict[str, Any]]
) -> dict[str, list[dict]]:
    """Detect on images with every kind of replacement; the network runs once.

    Args:
        model: in evaluation mode.
        batch: what the model takes, with "instances" of the ground truth.

    Returns:
        for each of `KINDS`, and of `CENTERNESS_KINDS` where it predicts one, what the model
        returns. "plain", or "plain_ctr", is what it returns itself.
    """
    check_oracle_model(model)
    images, features, predictions = model.predict(batch)
    targets = model.assign(images, features, predictions, [item["instances"] for item in batch])
    points, factor = model.points(features), model.score_factor(predictions)
    scores, boxes = model.scores(predictions), model.detected_boxes(predictions, points)

    def detect(kind: str, factor: Tensor | None = None) -> list[dict]:
        replaced = oracle_replacement(scores, boxes, targets, kind)
        candidates = model.choose(images, features, *replaced, factor)
        found = [model.suppress(*pair) for pair in zip(candidates, images.image_sizes)]
        return [
            {"instances": detector_postprocess(instances, item["height"], item["width"])}
            for instances, item in zip(found, batch)
        ]

    detections = {kind: detect(kind) for kind in KINDS}
    if factor is not None:
        for kind, replaced in CENTERNESS_KINDS.items():
            own_factor = oracle_centerness(factor, boxes, points, targets, kind)
            detections[kind] = detect(replaced, own_factor)
    return detections


def oracle_scores(
    model: LocationDetector,
    batches: Iterable[list[dict[str, Any]]],
    dataset_name: str,
    detections_per_image: int = 100,
) -> dict[str, dict[str, float]]:
    """Score every kind of replacement, in one pass over the data.

    Args:
        model: trained; put into evaluation mode and back.
        batches: of `build_annotated_loader`.
        dataset_name: the data set that the images belong to; only they are scored.
        detections_per_image: see `build_evaluator`.

    Returns:
        AP, AP50 and AP75 in percent, for each kind of `oracle_detections`.
    """
    image_ids: list[int] = []
    detections: dict[str, list[dict]] = defaultdict(list)
    with inference_context(model), torch.no_grad():
        for batch in batches:
            image_ids += [item["image_id"] for item in batch]
            for kind, found in oracle_detections(model, batch).items():
                detections[kind] += [{"instances": f["instances"].to("cpu")} for f in found]
    with _evaluator(dataset_name, detections_per_image) as evaluator:
        return {kind: _score(evaluator, image_ids, found) for kind, found in detections.items()}


def annotated_records(cfg: CfgNode, dataset_name: str, count: int = 0) -> list[dict[str, Any]]:
    """Return the dataset dicts of a data set, their boxes cleaned as for training.

    Args:
        cfg: the detector's NUM_CLASSES and DATASETS.STRICT are read.
        dataset_name: a registered data set.
        count: how many, spread evenly over the data set; 0, or more than it has: all.

    Raises:
        UserError: the data set or its pictures are not there, it has other classes than the model
            or no ground truth; bad boxes (`clean_boxes`).
    """
    check_datasets([dataset_name])
    records = DatasetCatalog.get(dataset_name)  # sets the classes of what is registered lazily
    classes = len(MetadataCatalog.get(dataset_name).get("thing_classes", ()))
    expected = detector_node(cfg).NUM_CLASSES
    if classes != expected:
        raise UserError(
            f"{dataset_name} has {classes} classes, but {detector_key(cfg)}.NUM_CLASSES is "
            f"{expected}; name a data set with the model's classes"
        )
    if 0 < count < len(records):
        records = [records[round(i)] for i in np.linspace(0, len(records) - 1, count)]
    check_images(records)
    records = clean_boxes(
        [{**record, "annotations": record.get("annotations", [])} for record in records],
        strict=cfg.DATASETS.STRICT,
    )
    if all(a.get("iscrowd", 0) for record in records for a in record["annotations"]):
        raise UserError(
            f"expected ground truth in {dataset_name} to replace predictions by, found none in "
            f"{len(records)} images; name a data set with annotations in DATASETS.TEST"
        )
    return records


def build_annotated_loader(
    cfg: CfgNode, records: Sequence[dict[str, Any]]
) -> Iterable[list[dict[str, Any]]]:
    """Build the test loader (INPUT's test resize, no flip, one image a batch) with ground truth.

    Each image has "instances" as in training: boxes of the resized image, no crowds.
    """
    mapper = build_mapper(cfg, is_train=False)
    # All that this still decides is whether annotations are mapped or dropped.
    mapper.is_train = True
    return build_detection_test_loader(
        list(records), mapper=mapper, num_workers=cfg.DATALOADER.NUM_WORKERS
    )


@contextlib.contextmanager
def _evaluator(dataset_name: str, detections_per_image: int) -> Iterator[DatasetEvaluator]:
    """An evaluator whose files are gone afterwards."""
    metadata = MetadataCatalog.get(dataset_name)
    converted = not metadata.get("json_file")
    with tempfile.TemporaryDirectory() as folder:
        try:
            yield build_evaluator(dataset_name, folder, detections_per_image)
        finally:
            if converted:  # to a file in this folder
                vars(metadata).pop("json_file", None)


def _score(
    evaluator: DatasetEvaluator, image_ids: Sequence[int], detections: Sequence[dict]
) -> dict[str, float]:
    evaluator.reset()
    evaluator.process([{"image_id": image_id} for image_id in image_ids], detections)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
        results = evaluator.evaluate(list(image_ids))
    return {name: float(results["bbox"][name]) for name in METRICS}
