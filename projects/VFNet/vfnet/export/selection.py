"""Candidates and suppression as a graph can hold them: the same detections as the eager path.

`vfnet.modeling.inference` sorts stably and counts what it finds, for which other runtimes have no
form. Here the best of a level are marked instead of listed, and only what is marked is taken.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import nms


class SelectionRule(NamedTuple):
    """What decides about detections: the keys of a detector's node that end in _TEST.

    by_location: CANDIDATE_TEST is "location", not "pair".
    """

    by_location: bool
    score_threshold: float
    topk: int
    iou_threshold: float
    max_detections: int


class Detections(NamedTuple):
    """Of each of N images up to D detections, best first.

    boxes: (N, D, 4), x1, y1, x2, y2 in pixels. scores: (N, D). classes: (N, D) int64. number: (N,)
    int64, how many there are; what lies behind them are zeros, and classes of -1.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor
    number: Tensor


def best_mask(values: Tensor, topk: int) -> Tensor:
    """Which of the values (N, M) are among the topk best of their row: of equals, the first are."""
    lowest = torch.full_like(values[:, :1], float("-inf")).expand(-1, topk)
    # With as many lowest values behind it, a row may be shorter than topk.
    kth = torch.cat((values, lowest), dim=1).topk(topk, dim=1).values.amin(dim=1, keepdim=True)
    above, equal = values > kth, values == kth
    places = topk - above.sum(dim=1, keepdim=True)
    return above | (equal & (equal.cumsum(dim=1) <= places))


def candidate_mask(
    scores: Tensor, factor: Tensor | None, level_counts: Sequence[int], rule: SelectionRule
) -> Tensor:
    """Which scores (N, R, K) are candidates: see `vfnet.modeling.inference.candidates`.

    A graph cannot refuse a NaN, as that does: it is no candidate.

    Args:
        factor: (N, R), or None. level_counts: how many of the R each level has.
    """
    if rule.by_location:
        best = scores.amax(dim=2)
        levels = (best if factor is None else best * factor).split(level_counts, dim=1)
        chosen = torch.cat([best_mask(level, rule.topk) for level in levels], dim=1)[:, :, None]
    else:
        levels = scores.split(level_counts, dim=1)
        masks = [best_mask(level.flatten(1), rule.topk).view(level.shape) for level in levels]
        chosen = torch.cat(masks, dim=1)
    return chosen & (scores > rule.score_threshold)


def clip(boxes: Tensor, limits: Tensor) -> Tensor:
    """Boxes (N, R, 4) within the images' heights and widths, `limits` (N, 2)."""
    highest = limits.flip(1).repeat(1, 2)[:, None].to(boxes.dtype)
    return torch.minimum(boxes.clamp(min=0), highest)


def detections(
    scores: Tensor,
    boxes: Tensor,
    factor: Tensor | None,
    level_counts: Sequence[int],
    rule: SelectionRule,
) -> Detections:
    """Choose, and suppress class by class.

    Args:
        scores, boxes, factor: (N, R, K), (N, R, 4), clipped, and (N, R) or None.
        level_counts: see `candidate_mask`.
    """
    mask = candidate_mask(scores, factor, level_counts, rule)
    mask = mask & (boxes[..., 2:] > boxes[..., :2]).all(dim=2)[:, :, None]
    if factor is not None:
        scores = scores * factor[:, :, None]
    found = [_of_image(*image, rule) for image in zip(mask, scores, boxes)]
    return Detections(*(torch.stack(parts) for parts in zip(*found)))


def _of_image(mask: Tensor, scores: Tensor, boxes: Tensor, rule: SelectionRule) -> Detections:
    """The detections of an image from mask and scores (R, K) and boxes (R, 4), without N."""
    num_classes = scores.shape[1]
    index = mask.flatten().nonzero().squeeze(1)
    # Behind them stands what is no detection, so that no tensor is empty; it fills up the end.
    nothing = boxes.new_zeros(1, 4)
    boxes = torch.cat((boxes[index // num_classes], nothing))
    scores = torch.cat((scores.flatten()[index], scores.new_full((1,), -1.0)))
    classes = torch.cat((index % num_classes, index.new_full((1,), -1)))
    # As torchvision's batched_nms: moved apart, boxes of different classes do not overlap.
    apart = (classes.to(boxes.dtype) * (boxes.max() + 1))[:, None]
    kept = nms(boxes + apart, scores, rule.iou_threshold)
    last = index.shape[0]
    filled = torch.cat((kept, kept.new_full((rule.max_detections,), last)))[: rule.max_detections]
    number = (filled < last).sum()
    return Detections(boxes[filled], scores[filled].clamp(min=0), classes[filled], number)
