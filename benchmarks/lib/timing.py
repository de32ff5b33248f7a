"""Measuring time: several variants in turns, each told apart into the parts that it marks."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch

from vfnet.errors import UserError


class Watch(Protocol):
    """What a run is given, to say where its parts end."""

    def mark(self, part: str) -> None:
        """What came since the last mark was `part`."""

    def skip(self) -> None:
        """What came since the last mark does not count."""

    def total(self, name: str, parts: Sequence[str] | None = None) -> None:
        """Call several parts together `name`; None: all that were marked so far."""


Run = Callable[[Watch], None]

# Variant -> part -> one number a repeat.
Samples = dict[str, dict[str, list[float]]]


class Stopwatch:
    """A `Watch` that takes time: `seconds` of each part and of each total."""

    def __init__(
        self,
        clock: Callable[[], float] = time.perf_counter,
        synchronize: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Args:
            clock: seconds.
            synchronize: waits until the device has done what it was given.
        """
        self.clock = clock
        self.synchronize = synchronize
        self.seconds: dict[str, float] = {}
        self.parts: list[str] = []
        self.last = self._now()

    def mark(self, part: str) -> None:
        now = self._now()
        self.seconds[part] = now - self.last
        self.parts.append(part)
        self.last = now

    def skip(self) -> None:
        self.last = self._now()

    def total(self, name: str, parts: Sequence[str] | None = None) -> None:
        self.seconds[name] = sum(self.seconds[part] for part in parts or self.parts)

    def _now(self) -> float:
        self.synchronize()
        return self.clock()


def measure(
    runs: Mapping[str, Run],
    repeats: int,
    warm_up: int = 0,
    new_watch: Callable[[], Stopwatch] = Stopwatch,
) -> Samples:
    """Time each run `repeats` times, in turns: all of them once before any of them twice.

    What slows a machine down for a while - heat, a neighbour - then slows all variants down, and
    their ratios stay.

    Args:
        runs: by variant.
        repeats: counted turns, at least 1.
        warm_up: turns before them that are not counted.
        new_watch: makes the watch of a run; it is stopped by the run's marks.

    Returns:
        seconds.

    Raises:
        UserError: fewer than 1 repeat, or less than no warm-up.
    """
    if repeats < 1 or warm_up < 0:
        raise UserError(
            f"expected at least 1 repeat and 0 turns of warm-up, got {repeats} and {warm_up}"
        )
    samples: Samples = {name: {} for name in runs}
    for turn in range(warm_up + repeats):
        for name, run in runs.items():
            watch = new_watch()
            run(watch)
            if turn >= warm_up:
                for part, seconds in watch.seconds.items():
                    samples[name].setdefault(part, []).append(seconds)
    return samples


class Summary(NamedTuple):
    """Median of repeats, and the quartiles below and above it."""

    median: float
    lower: float
    upper: float


def summarise(samples: Samples) -> dict[str, dict[str, Summary]]:
    """Median and quartiles of each variant's parts."""
    return {
        name: {
            part: Summary(*(float(q) for q in np.percentile(values, (50, 25, 75))))
            for part, values in parts.items()
        }
        for name, parts in samples.items()
    }


def stopwatch_of(device: str) -> Callable[[], Stopwatch]:
    """What makes the stopwatches that are right for a device.

    Work on a GPU goes on behind Python's back, so these wait for it.
    """
    if torch.device(device).type == "cuda":
        return lambda: Stopwatch(synchronize=lambda: torch.cuda.synchronize(device))
    return Stopwatch
