"""From candidates to detections: what overlaps a better box is suppressed, or loses score."""

from collections.abc import Callable
from functools import partial

import torch
from detectron2.layers import batched_nms
from detectron2.structures import Boxes, Instances
from torch import Tensor
from torchvision.ops import box_iou

from ...errors import UserError
from .candidates import Candidates

# Boxes (C, 4), scores (C,), classes (C,) -> kept candidates and their scores, best first.
Suppression = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def nms(
    boxes: Tensor, scores: Tensor, classes: Tensor, iou_threshold: float, max_detections: int
) -> tuple[Tensor, Tensor]:
    """Suppress, class by class, what overlaps a better box by more than `iou_threshold`.

    Returns:
        The kept candidates' indices and their scores, best first, at most `max_detections`; below
        0: all.
    """
    kept = batched_nms(boxes, scores, classes, iou_threshold)
    kept = kept if max_detections < 0 else kept[:max_detections]
    return kept, scores[kept]


def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    classes: Tensor,
    iou_threshold: float,
    max_detections: int,
    method: str = "linear",
    sigma: float = 0.5,
    min_score: float = 0.001,
) -> tuple[Tensor, Tensor]:
    """Soft-NMS (https://arxiv.org/abs/1704.04503): lower the scores of overlapping boxes.

    The best box left is taken, and those of its class decay: linearly, by 1 - IoU where the IoU
    reaches the threshold, or by exp(-IoU^2 / sigma) everywhere ("gaussian"). Scores only fall, so
    boxes are taken in the order of their final scores, and `max_detections` rounds are enough.

    Args:
        boxes: (C, 4). scores, classes: (C,).
        iou_threshold: of the linear decay.
        sigma: of the gaussian decay.
        min_score: boxes that decay below it are dropped.

    Returns:
        As `nms`, with the decayed scores.
    """
    remaining = scores.clone()
    kept, kept_scores = [], []
    for _ in range(len(scores) if max_detections < 0 else min(max_detections, len(scores))):
        best = remaining.argmax()
        if remaining[best] < min_score:
            break
        kept.append(best)
        kept_scores.append(remaining[best].clone())
        iou = box_iou(boxes[best, None], boxes)[0] * (classes == classes[best])
        if method == "linear":
            decay = torch.where(iou >= iou_threshold, 1 - iou, 1.0)
        else:
            decay = torch.exp(-iou.square() / sigma)
        # Not the product alone: -inf times 0 is NaN, which argmax takes for the best.
        remaining = torch.where(remaining.isneginf(), remaining, remaining * decay)
        remaining[best] = float("-inf")
    if not kept:
        return classes.new_zeros(0), scores.new_zeros(0)
    return torch.stack(kept), torch.stack(kept_scores)


def suppressed(
    candidates: Candidates, image_size: tuple[int, int], suppression: Suppression
) -> Instances:
    """From the candidates of an image of this (H, W) to its detections, best first."""
    kept, scores = suppression(*candidates)
    return Instances(
        image_size,
        pred_boxes=Boxes(candidates.boxes[kept]),
        scores=scores,
        pred_classes=candidates.classes[kept],
    )


def build_suppression(
    name: str,
    iou_threshold: float,
    max_detections: int,
    sigma: float,
    min_score: float,
    *,
    prefix: str,
) -> Suppression:
    """What NMS_TYPE names, "nms", "soft_nms_linear" or "soft_nms_gaussian".

    `prefix` of the key, such as "MODEL.VFNET", is for messages; the others: see `soft_nms`.
    """
    if name == "nms":
        return partial(nms, iou_threshold=iou_threshold, max_detections=max_detections)
    if name in ("soft_nms_linear", "soft_nms_gaussian"):
        return partial(
            soft_nms,
            iou_threshold=iou_threshold,
            max_detections=max_detections,
            method=name.rpartition("_")[2],
            sigma=sigma,
            min_score=min_score,
        )
    raise UserError(
        f"{prefix}.NMS_TYPE must be 'nms', 'soft_nms_linear' or 'soft_nms_gaussian', got {name!r}"
    )
