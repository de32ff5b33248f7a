"""The best and the last AP of a run, and the APs of each class."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..evaluation.precision_recall import ClassScore
from ..inspection.run import ap_names, series

Metrics = Sequence[Mapping[str, float]]


class BestAndLast(NamedTuple):
    """An AP in percent: the highest and after how many iterations, and the last."""

    name: str
    best: float
    best_iteration: int
    last: float
    last_iteration: int


class Row(NamedTuple):
    """A class, or all objects: how many there are, and APs in percent, or None."""

    name: str
    num_gt: int | None
    ap: float | None
    ap50: float | None = None
    by_size: tuple[float | None, ...] = (None, None, None)


def best_and_last(metrics: Metrics) -> list[BestAndLast]:
    """Of each AP that was written, such as "bbox/AP50" and that of an average."""
    found = []
    for name in ap_names(list(map(dict, metrics)), of_classes=False):
        iterations, values = series(list(map(dict, metrics)), name)
        best = int(values.argmax())
        found.append(
            BestAndLast(
                name.replace("bbox/", ""),
                float(values[best]),
                int(iterations[best]),
                float(values[-1]),
                int(iterations[-1]),
            )
        )
    return found


def rows_of_scores(scores: Sequence[ClassScore]) -> list[Row]:
    """The rows of what an evaluation of all detections gave."""
    return [
        Row(
            score.name,
            score.num_gt,
            _percent(score.ap),
            _percent(score.ap50),
            tuple(map(_percent, score.by_size)),
        )
        for score in scores
    ]


def rows_of_metrics(metrics: Metrics) -> list[Row]:
    """The rows of what was logged: without AP50 and sizes, of the first data set."""
    latest = {name: value for row in metrics for name, value in row.items()}
    found: dict[str, Row] = {}
    for name, value in latest.items():
        before, key, label = name.partition("vfnet/num_gt-")
        if key and label not in found:
            ap = latest.get(f"{before}vfnet/AP-{label}")
            found[label] = Row(label, int(value), ap)
    return list(found.values())


def _percent(share: float) -> float | None:
    return None if math.isnan(share) else 100 * share
