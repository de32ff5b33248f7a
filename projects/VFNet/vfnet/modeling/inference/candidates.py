"""From predictions at all locations to candidates, of all levels and images in one go."""

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from detectron2.layers import shapes_to_tensor
from torch import Tensor

from ...errors import UserError

FEW = 10_000  # values that are sorted sooner than split


class NonFiniteDetectionsError(UserError, FloatingPointError):
    """A score or a box of a candidate is infinite or NaN."""


class Candidates(NamedTuple):
    """What suppression chooses from: C (box, class) pairs of one image.

    boxes: (C, 4), x1, y1, x2, y2 in pixels. scores, classes: (C,).
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor


# Scores (R, K), groups (R,), which number the levels of all images, and `factor`, see below ->
# location, class and score of the candidates, (C,) each; locations ascend.
CandidateRule = Callable[..., tuple[Tensor, Tensor, Tensor]]


def best_pairs(
    scores: Tensor,
    groups: Tensor,
    score_threshold: float,
    topk: int,
    factor: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Candidates as mmdet 3 and Detectron2 choose them: the best (location, class) pairs.

    Args:
        scores, groups: as in `CandidateRule`.
        score_threshold: a candidate's score lies above it, or is NaN, which must not be lost.
        topk: pairs kept of a group at most.
        factor: (R,), such as centerness: what a candidate's score is multiplied by, once chosen.
    """
    location, label = (~(scores <= score_threshold)).nonzero(as_tuple=True)
    score = scores[location, label]
    kept = best_of_groups(score, groups[location], topk)
    return _with_factor(location[kept], label[kept], score[kept], factor)


def best_locations(
    scores: Tensor,
    groups: Tensor,
    score_threshold: float,
    topk: int,
    factor: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Candidates as the official implementation chooses them.

    The topk locations of a group by their best class, times `factor`, come first, then all their
    classes whose score alone lies above the threshold; arguments as in `best_pairs`.
    """
    best = scores.amax(dim=1)
    kept = best_of_groups(best if factor is None else best * factor, groups, topk)
    place, label = (~(scores[kept] <= score_threshold)).nonzero(as_tuple=True)
    location = kept[place]
    return _with_factor(location, label, scores[location, label], factor)


def _with_factor(
    location: Tensor, label: Tensor, score: Tensor, factor: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    return location, label, score if factor is None else score * factor[location]


def best_of_groups(values: Tensor, groups: Tensor, topk: int) -> Tensor:
    """Indices of the topk best values (C,) of each group (C,), groups and result ascending."""
    if len(values) <= FEW or torch.jit.is_tracing():
        return (ranks(values, groups) < topk).nonzero().squeeze(1)
    # Sorting all of very many, as under a threshold of 0, takes longer than a topk for each group.
    parts = values.split(torch.bincount(groups).tolist())
    best = [part.topk(min(topk, len(part)), sorted=False).indices for part in parts]
    firsts = itertools.accumulate((len(part) for part in parts), initial=0)
    return torch.cat([index + first for index, first in zip(best, firsts)]).sort().values


def ranks(values: Tensor, groups: Tensor) -> Tensor:
    """How many values (C,) of the same group (C,) are better: of equals, the first is."""
    order = values.argsort(descending=True, stable=True)
    order = order[groups[order].argsort(stable=True)]  # group by group, best first
    grouped = groups[order]
    first_of_group = torch.searchsorted(grouped, grouped)
    places = torch.arange(order.shape[0], device=order.device)
    return torch.empty_like(order).scatter_(0, order, places - first_of_group)


def build_candidate_rule(
    name: str, score_threshold: float, topk: int, *, prefix: str
) -> CandidateRule:
    """The rule that CANDIDATE_TEST names, "pair" or "location"; messages begin with `prefix`."""
    rules = {"pair": best_pairs, "location": best_locations}
    if name not in rules:
        raise UserError(f"{prefix}.CANDIDATE_TEST must be 'pair' or 'location', got {name!r}")
    return partial(rules[name], score_threshold=score_threshold, topk=topk)


def choose_candidates(
    scores: Tensor,
    boxes: Tensor,
    levels: Tensor,
    box_limits: Sequence[tuple[int, int]],
    rule: CandidateRule,
    factor: Tensor | None = None,
) -> list[Candidates]:
    """Choose the candidates of N images, in pixels of the resized image.

    Args:
        scores, boxes: (N R, K), (N R, 4), image by image; boxes x1, y1, x2, y2.
        levels: (R,), the level of each location, ascending from 0.
        box_limits: (y, x) in pixels that the boxes of each image are clipped to, such as its
            height and width before padding.
        factor: (N R,), see `best_pairs`.

    Raises:
        NonFiniteDetectionsError: weights or a precision gave what is no number.
    """
    n, device = len(box_limits), scores.device
    first_groups = torch.arange(n, device=device) * (levels.max() + 1)
    groups = (first_groups[:, None] + levels).flatten()
    location, classes, scores = rule(scores, groups, factor=factor)

    # shape[0] and shapes_to_tensor: an exported model takes other sizes, too.
    image, boxes = location // levels.shape[0], boxes[location]
    finite = boxes.isfinite().all(dim=1) & scores.isfinite()
    if not finite.all():
        raise NonFiniteDetectionsError(
            f"{int((~finite).sum())} of {len(finite)} candidates have a score or a box that is NaN "
            "or infinite: expected finite weights, and a precision in which no layer overflows; "
            "where PRECISION_TEST of the detector is not float32, set it to that"
        )
    # Clipped before suppression, as the reference does: what overlaps outside the image must not
    # decide.
    limits = torch.stack([shapes_to_tensor([w, h, w, h], device) for h, w in box_limits])
    boxes = torch.minimum(boxes.clamp(min=0), limits[image])
    nonempty = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    found = [tensor[nonempty] for tensor in (boxes, scores, classes, image)]
    if n == 1:  # nothing to count, which an exported model could not repeat
        return [Candidates(*found[:3])]
    sizes = torch.bincount(found[3], minlength=n).tolist()
    return [Candidates(*parts) for parts in zip(*(tensor.split(sizes) for tensor in found[:3]))]
