"""The detectors that a page offers, by a label each; the page never shows where they lie."""

from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError
from ..model_zoo.published import published_models
from ..predictor import Predictor

# Scores below are not kept, so that the page's threshold can be moved from here on.
LOWEST_SCORE = 0.05
# Published detectors that stay loaded, beside those of the command line.
_ZOO_LOADED = 2


class Source(NamedTuple):
    """Weights and their config, as `Predictor` takes them."""

    weights: str
    config: str | None = None


class Detectors:
    """Loads detectors when they are first asked for; own ones stay, and the last of the zoo.

    Args:
        own: weights and exported files of this machine.
        zoo: offer the published detectors too.
    """

    def __init__(self, own: Sequence[Source], zoo: bool = True):
        self._own = own_labels(own)
        self._sources = self._own | (zoo_labels() if zoo else {})
        self.labels = list(self._sources)
        self._load_own = cache(self._open)
        self._load_from_zoo = lru_cache(maxsize=_ZOO_LOADED)(self._open)

    def load_own(self) -> None:
        """Load those of this machine, so that what is wrong with one shows before the page does.

        Raises:
            UserError: as `Predictor`.
        """
        for label in self._own:
            self.load(label)

    def load(self, label: str) -> Predictor:
        """Return the detector of a label.

        Raises:
            UserError: there is none; as `Predictor`.
        """
        if label not in self._sources:
            raise UserError(f"expected one of the {len(self.labels)} detectors, got {label!r}")
        return self._load_own(label) if label in self._own else self._load_from_zoo(label)

    def _open(self, label: str) -> Predictor:
        weights, config = self._sources[label]
        return Predictor(weights, config, confidence_threshold=LOWEST_SCORE)


def own_labels(sources: Sequence[Source]) -> dict[str, Source]:
    """Label files by their names and their folders', those that are still the same by numbers."""
    labels: dict[str, Source] = {}
    for source in sources:
        path = Path(source.weights)
        published = source.weights.startswith("vfnet://")
        label = (
            path.name if published or not path.parent.name else f"{path.parent.name}: {path.name}"
        )
        number = sum(known.split(" #")[0] == label for known in labels)
        labels[f"{label} #{number + 1}" if number else label] = source
    return labels


def zoo_labels() -> dict[str, Source]:
    """Label the published detectors that can be downloaded."""
    labels = {}
    for row in published_models():
        if row.weights:
            ap = row.ap_val or row.ap_test_dev
            labels[f"{row.config} (COCO, AP {ap})"] = Source(f"vfnet://{row.config}")
    return labels
