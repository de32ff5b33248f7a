"""From scores of all locations to candidates, and from candidates to detections."""

from functools import partial
from typing import Callable, NamedTuple

import torch
from detectron2.layers import batched_nms
from torch import Tensor
from torchvision.ops import box_iou

from ..errors import UserError


class Candidates(NamedTuple):
    """What suppression chooses from: C (box, class) pairs of one image.

    boxes: (C, 4), x1, y1, x2, y2 in pixels. scores, classes: (C,).
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor


# Scores of one level (R, K) -> location, class and score of its candidates, (C,) each.
CandidateRule = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]

# Boxes (C, 4), scores (C,), classes (C,) -> kept candidates and their scores, best first.
Suppression = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def best_pairs(scores: Tensor, score_threshold: float, topk: int) -> tuple[Tensor, Tensor, Tensor]:
    """Candidates as mmdet 3 and Detectron2 choose them: the best (location, class) pairs.

    Args:
        scores: (R, K) of one level.
        score_threshold: a candidate's score lies above it.
        topk: pairs kept at most.

    Returns:
        location, class and score, (C,) each, by descending score.
    """
    location, label = (scores > score_threshold).nonzero(as_tuple=True)
    score = scores[location, label]
    score, best = score.topk(min(topk, len(score)))
    return location[best], label[best], score


def best_locations(
    scores: Tensor, score_threshold: float, topk: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Candidates as the official implementation chooses them.

    The topk locations by their best class come first, then all their classes whose score lies
    above the threshold; arguments and result as `best_pairs`, in no order.
    """
    if len(scores) > topk:
        kept = scores.amax(dim=1).topk(topk).indices
    else:
        kept = torch.arange(len(scores), device=scores.device)
    place, label = (scores[kept] > score_threshold).nonzero(as_tuple=True)
    location = kept[place]
    return location, label, scores[location, label]


def build_candidate_rule(name: str, score_threshold: float, topk: int) -> CandidateRule:
    """The rule that `MODEL.VFNET.CANDIDATE_TEST` names: "pair" or "location"."""
    rules = {"pair": best_pairs, "location": best_locations}
    if name not in rules:
        raise UserError(f"MODEL.VFNET.CANDIDATE_TEST must be 'pair' or 'location', got {name!r}")
    return partial(rules[name], score_threshold=score_threshold, topk=topk)


def nms(
    boxes: Tensor, scores: Tensor, classes: Tensor, iou_threshold: float, max_detections: int
) -> tuple[Tensor, Tensor]:
    """Suppress, class by class, what overlaps a better box by more than `iou_threshold`.

    Returns:
        The kept candidates' indices and their scores, best first, at most `max_detections`.
    """
    kept = batched_nms(boxes, scores, classes, iou_threshold)[:max_detections]
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
    for _ in range(min(max_detections, len(scores))):
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


def build_suppression(
    name: str, iou_threshold: float, max_detections: int, sigma: float, min_score: float
) -> Suppression:
    """What `MODEL.VFNET.NMS_TYPE` names: "nms", "soft_nms_linear" or "soft_nms_gaussian"."""
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
        "MODEL.VFNET.NMS_TYPE must be 'nms', 'soft_nms_linear' or 'soft_nms_gaussian', "
        f"got {name!r}"
    )
