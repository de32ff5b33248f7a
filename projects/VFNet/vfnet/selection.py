"""Which detections of a picture are kept."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import NamedTuple

import torch
from detectron2.structures import Instances

from .errors import UserError


class Selection(NamedTuple):
    """Which detections are kept; None: all. The order stays."""

    confidence_threshold: float | None
    class_ids: list[int] | None
    max_detections: int | None

    def of(self, instances: Instances) -> Instances:
        """Return those of the detections, on the CPU."""
        if self.confidence_threshold is not None:
            # Soft-NMS lowers scores after the model has applied its threshold.
            instances = instances[instances.scores >= self.confidence_threshold]
        if self.class_ids is not None:
            chosen = torch.tensor(self.class_ids, dtype=torch.int64)
            instances = instances[torch.isin(instances.pred_classes, chosen)]
        return instances if self.max_detections is None else instances[: self.max_detections]


def find_classes(classes: Sequence[str | int], names: Sequence[str]) -> list[int]:
    """Return the ids of classes that are named, or given by their ids.

    Raises:
        UserError: there is no such class.
    """
    by_word = {str(index): index for index in range(len(names))}
    by_word.update({name: index for index, name in enumerate(names)})
    found = []
    for word in map(str, classes):
        if word not in by_word:
            close = difflib.get_close_matches(word, names, n=3) or list(names[:5])
            raise UserError(
                f"expected a class by its name or its id from 0 to {len(names) - 1}, got {word!r}; "
                f"there are {', '.join(close)}" + (" and more" if len(close) < len(names) else "")
            )
        found.append(by_word[word])
    return found
