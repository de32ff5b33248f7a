"""The oracle study of the paper's Table 1: what a perfect part of the predictions would be worth.

Predictions are replaced by ground truth at the positive locations, before candidates are chosen
and suppressed; background keeps its predictions. Which locations are positive, and of which ground
truth, is what the training assignment says. Nothing is trained.

The table's rows with a centerness do not exist here: VFNet predicts none.
"""

import contextlib
import io
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog, build_detection_test_loader
from detectron2.evaluation import DatasetEvaluator, inference_context
from detectron2.modeling.postprocessing import detector_postprocess
from torch import Tensor

from ..data import build_mapper, check_datasets, check_images
from ..data.checks.boxes import clean_boxes
from ..errors import UserError
from ..modeling.head import HeadOutput
from ..modeling.levels import decode
from ..modeling.losses import iou_weighted_giou_loss
from ..modeling.targets import Targets
from ..modeling.vfnet import VFNet
from .evaluator import VFNetEvaluator

# The rows. With "_only", the other classes of a positive location get the score 0; without it,
# they keep their scores. The paper replaces "the element at the ground-truth label position".
KINDS = ("plain", "gt_bbox", "gt_cls", "gt_cls_only", "gt_cls_iou", "gt_cls_iou_only")
METRICS = ("AP", "AP50", "AP75")

# How far scores stay away from 0 and 1, whose logits are infinite.
SCORE_MARGIN = 1e-6


def oracle_predictions(
    predictions: HeadOutput, points: Tensor, targets: Targets, kind: str
) -> HeadOutput:
    """Replace predictions by ground truth at the positive locations (paper, Table 1).

    Scores are written as logits, log(q / (1 - q)), with q from 1e-6 to 1 - 1e-6.

    Args:
        predictions: of N images; not changed.
        points: (R, 2), where the locations stand, in pixels.
        targets: of N images.
        kind: "plain": nothing is replaced. "gt_bbox": the box that is detected, the refined one
            where there is one, becomes the ground-truth box. "gt_cls": the score of the
            ground-truth class becomes 1, so that all locations of an object tie and suppression
            cannot tell which has the best box. "gt_cls_iou": it becomes the IoU of the detected
            box with the ground-truth box, as in training: not clipped to the image, at least 1e-6.
            "gt_cls_only", "gt_cls_iou_only": the scores of all other classes also become 0.
    """
    if kind not in KINDS:
        raise UserError(f"expected a kind among {', '.join(KINDS)}; got {kind!r}")
    if kind == "plain":
        return predictions
    detected = predictions.refined_distances or predictions.distances
    image = torch.div(targets.index, len(points), rounding_mode="floor")  # (P,)
    location = targets.index % len(points)  # (P,)
    positive_points = points[location]  # (P, 2)

    if kind == "gt_bbox":
        distances = _join_levels(detected)
        distances[image, :, location] = torch.cat(
            (positive_points - targets.boxes[:, :2], targets.boxes[:, 2:] - positive_points), dim=1
        )
        replaced = _split_levels(distances, detected)
        if predictions.refined_distances:
            return predictions._replace(refined_distances=replaced)
        return predictions._replace(distances=replaced)

    logits = _join_levels(predictions.logits)
    if kind.startswith("gt_cls_iou"):
        boxes = decode(positive_points, _join_levels(detected)[image, :, location])
        _, scores = iou_weighted_giou_loss(boxes, targets.boxes)  # (P,)
    else:
        scores = logits.new_ones(len(location))
    if kind.endswith("_only"):
        logits[image, :, location] = logits.new_tensor(0.0).logit(SCORE_MARGIN)
    logits[image, targets.classes, location] = scores.logit(SCORE_MARGIN)
    return predictions._replace(logits=_split_levels(logits, predictions.logits))


def oracle_detections(model: VFNet, batch: list[dict[str, Any]]) -> dict[str, list[dict]]:
    """Detect on images with every kind of replacement; the network runs once.

    Args:
        model: in evaluation mode.
        batch: what the model takes, with "instances" of the ground truth.

    Returns:
        for each of `KINDS` what the model returns. "plain" is what it returns itself.
    """
    images, features, predictions = model.predict(batch)
    targets = model.assign(images, features, [item["instances"] for item in batch])
    points = model.points(features)

    def detect(kind: str) -> list[dict]:
        replaced = oracle_predictions(predictions, points, targets, kind)
        found = model.forward_inference(images, features, replaced)
        return [
            {"instances": detector_postprocess(instances, item["height"], item["width"])}
            for instances, item in zip(found, batch)
        ]

    return {kind: detect(kind) for kind in KINDS}


def oracle_scores(
    model: VFNet, batches: Iterable[list[dict[str, Any]]], dataset_name: str
) -> dict[str, dict[str, float]]:
    """Score every kind of replacement, in one pass over the data.

    Args:
        model: trained; put into evaluation mode and back.
        batches: of `build_annotated_loader`.
        dataset_name: the data set that the images belong to; only they are scored.

    Returns:
        AP, AP50 and AP75 in percent, for each of `KINDS`.
    """
    image_ids: list[int] = []
    detections: dict[str, list[dict]] = {kind: [] for kind in KINDS}
    with inference_context(model), torch.no_grad():
        for batch in batches:
            image_ids += [item["image_id"] for item in batch]
            for kind, found in oracle_detections(model, batch).items():
                detections[kind] += [{"instances": f["instances"].to("cpu")} for f in found]
    with _evaluator(dataset_name) as evaluator:
        return {kind: _score(evaluator, image_ids, found) for kind, found in detections.items()}


def annotated_records(cfg: CfgNode, dataset_name: str, count: int = 0) -> list[dict[str, Any]]:
    """Return the dataset dicts of a data set, their boxes cleaned as for training.

    Args:
        cfg: MODEL.VFNET.NUM_CLASSES and DATASETS.STRICT are read.
        dataset_name: a registered data set.
        count: how many, spread evenly over the data set; 0, or more than it has: all.

    Raises:
        UserError: the data set or its pictures are not there, it has other classes than the model
            or no ground truth; bad boxes (`clean_boxes`).
    """
    check_datasets([dataset_name])
    records = DatasetCatalog.get(dataset_name)  # sets the classes of what is registered lazily
    classes = len(MetadataCatalog.get(dataset_name).get("thing_classes", ()))
    if classes != cfg.MODEL.VFNET.NUM_CLASSES:
        raise UserError(
            f"{dataset_name} has {classes} classes, but MODEL.VFNET.NUM_CLASSES is "
            f"{cfg.MODEL.VFNET.NUM_CLASSES}; name a data set with the model's classes"
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
def _evaluator(dataset_name: str) -> Iterator[DatasetEvaluator]:
    """An evaluator whose files are gone afterwards."""
    metadata = MetadataCatalog.get(dataset_name)
    converted = not metadata.get("json_file")
    with tempfile.TemporaryDirectory() as folder:
        try:
            yield VFNetEvaluator(dataset_name, output_dir=folder, allow_cached_coco=False)
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


def _join_levels(levels: Sequence[Tensor]) -> Tensor:
    """(N, C, H, W) of each level -> (N, C, R) float32, a copy: level by level, row by row."""
    return torch.cat([level.flatten(2).float() for level in levels], dim=2)


def _split_levels(joined: Tensor, levels: Sequence[Tensor]) -> list[Tensor]:
    """The inverse of `_join_levels`."""
    parts = joined.split([level.shape[2] * level.shape[3] for level in levels], dim=2)
    return [part.reshape(level.shape) for part, level in zip(parts, levels)]
