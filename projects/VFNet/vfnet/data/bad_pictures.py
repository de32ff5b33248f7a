"""Pictures that cannot be used, where DATASETS.ON_BAD_IMAGE is "skip": replaced, named, counted."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from detectron2.config import CfgNode

from ..errors import UserError
from .checks.pictures import PictureError

logger = logging.getLogger(__name__)

POLICIES = ("error", "skip")


class Replaced(NamedTuple):
    """A sample that stands for others, and what was wrong with these; on its way from a worker."""

    sample: Any
    problems: list[PictureError]


@dataclass
class SkippedPictures:
    """Names each picture once in the log; holds one line of text for each bad one at most."""

    seen: set[str] = field(default_factory=set)

    def add(self, problem: PictureError) -> None:
        """Take note of a picture that was left out."""
        if str(problem) not in self.seen:
            self.seen.add(str(problem))
            number = len(self.seen)
            logger.warning(f"left out (DATASETS.ON_BAD_IMAGE skip; {number} so far): {problem}")


@dataclass
class ErrorAsSample:
    """A mapper that gives the error of a picture that cannot be used in place of its sample."""

    mapper: Callable[[dict], Any]

    def __call__(self, record: dict[str, Any]) -> Any:
        try:
            return self.mapper(record)
        except PictureError as error:
            return error


@dataclass
class SkippingLoader:
    """A test loader without the pictures that cannot be used."""

    loader: Any
    skipped: SkippedPictures = field(default_factory=SkippedPictures)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        for batch in self.loader:
            for sample in batch:
                if isinstance(sample, PictureError):
                    self.skipped.add(sample)
            if usable := [sample for sample in batch if not isinstance(sample, PictureError)]:
                yield usable


@dataclass
class RaisingLoader:
    """Raise the errors that come in place of samples.

    An error that a worker process raises arrives with its traceback as its message; one that it
    hands over keeps the sentence that was written for the user.
    """

    num_records: int  # of the data set, as it is trained on
    loader: Iterable[list[Any]]
    skipped: SkippedPictures = field(default_factory=SkippedPictures)

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        for batch in self.loader:
            for number, sample in enumerate(batch):
                if isinstance(sample, UserError):
                    raise sample
                if isinstance(sample, Replaced):
                    batch[number] = sample.sample
                    for problem in sample.problems:
                        self.skipped.add(problem)
            yield batch


def skips_bad_pictures(cfg: CfgNode) -> bool:
    """Whether DATASETS.ON_BAD_IMAGE is "skip".

    Raises:
        UserError: it is no policy.
    """
    policy = cfg.DATASETS.ON_BAD_IMAGE
    if policy not in POLICIES:
        raise UserError(f"DATASETS.ON_BAD_IMAGE must be 'error' or 'skip', got {policy!r}")
    return policy == "skip"


def substitutes(index: int, groups: Sequence[int], entropy: tuple[int, ...]) -> Iterator[int]:
    """Every other record once: those of the record's group first, each from a place that is drawn.

    Args:
        index: of the record to replace.
        groups: of each record; a batch is of one.
        entropy: what the places follow from.
    """
    draws = np.random.default_rng(entropy)
    same = np.asarray(groups) == groups[index]
    for members in (np.flatnonzero(same), np.flatnonzero(~same)):
        if len(members):
            for other in np.roll(members, -int(draws.integers(len(members)))):
                if other != index:
                    yield int(other)
