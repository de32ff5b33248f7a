"""What more workers give, computed from the step of one, the gradient's size and the links.

Data parallel training with a ring all-reduce of the gradient, which goes in buckets while the
backward pass still runs, as in PyTorch's `DistributedDataParallel`. Nothing in here is measured.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..errors import UserError

# `bucket_cap_mb` of DistributedDataParallel, in bytes.
BUCKET = 25 * 2**20


class Link(NamedTuple):
    """What joins two neighbours of the ring."""

    bandwidth: float  # bytes a second, in each direction at once
    latency: float  # seconds until a message's first byte arrives


class Step(NamedTuple):
    """One worker's step, without communication."""

    seconds: float
    backward: float  # seconds of it that the all-reduce can hide behind
    images: int
    peak_bytes: int | None = None  # None: not measured


class Recipe(NamedTuple):
    """A schedule that is known to work."""

    batch: int
    learning_rate: float
    iterations: int


class Scaled(NamedTuple):
    """A job of many workers."""

    workers: int
    batch: int  # images in a step of all of them
    learning_rate: float
    iterations: int  # for as many images in all as the recipe sees
    communication: float  # seconds of the all-reduce
    share_alone: float  # of a step, if nothing hides it
    share_overlapped: float  # of a step, behind the backward pass
    images_a_second: float  # of all workers, overlapped
    efficiency: float  # of as many single workers


def all_reduce_seconds(size: float, workers: int, link: Link) -> float:
    """Seconds of a ring all-reduce of `size` bytes: 2(n-1) messages of size/n, one after the other.

    Source: Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms", 2009.
    """
    return 2 * (workers - 1) * (size / workers / link.bandwidth + link.latency)


def gradient_seconds(size: float, workers: int, link: Link) -> float:
    """Seconds of the all-reduce of a gradient of `size` bytes, bucket by bucket."""
    whole, rest = divmod(size, BUCKET)
    seconds = whole * all_reduce_seconds(BUCKET, workers, link)
    return seconds + (all_reduce_seconds(rest, workers, link) if rest else 0.0)


def exposed_seconds(size: float, workers: int, link: Link, backward: float) -> float:
    """Seconds of `gradient_seconds` that the backward pass does not hide.

    The last bucket is full only when the backward pass is over, so at least that one shows.
    """
    last = all_reduce_seconds(min(size, BUCKET), workers, link)
    return max(gradient_seconds(size, workers, link) - backward, last)


def scale(step: Step, workers: int, recipe: Recipe, gradient_bytes: int, link: Link) -> Scaled:
    """Compute what `workers` give that each take `step`.

    The learning rate follows the linear rule: Goyal et al., arXiv:1706.02677, section 2.1.
    """
    batch = workers * step.images
    communication = gradient_seconds(gradient_bytes, workers, link)
    exposed = exposed_seconds(gradient_bytes, workers, link, step.backward)
    together = step.seconds + exposed
    return Scaled(
        workers=workers,
        batch=batch,
        learning_rate=recipe.learning_rate * batch / recipe.batch,
        iterations=round(recipe.iterations * recipe.batch / batch),
        communication=communication,
        share_alone=communication / (step.seconds + communication),
        share_overlapped=exposed / together,
        images_a_second=batch / together,
        efficiency=step.seconds / together,
    )


def loaders_needed(images_a_second: float, rate_of_one: float) -> int:
    """Loader workers (DATALOADER.NUM_WORKERS) for a process that trains so fast.

    Args:
        images_a_second: what the process trains.
        rate_of_one: images a second that one loader worker gives.
    """
    return math.ceil(images_a_second / rate_of_one)


def ddp_peak_bytes(step: Step, gradient_bytes: int) -> int | None:
    """Peak memory of a worker: its step's, and the buckets, a second copy of the gradient."""
    return None if step.peak_bytes is None else step.peak_bytes + gradient_bytes


def step_of_report(report: Mapping[str, Any]) -> Step:
    """The VFNet's training step in what `tools/benchmark.py --output` has written.

    Raises:
        UserError: the report has no training in it.
    """
    if "training" not in report:
        raise UserError(
            "expected a file that tools/benchmark.py --output has written, with training in it; "
            f"got one with {', '.join(report) or 'nothing'}: run it without --no-train"
        )
    training = report["training"]
    try:
        parts = next(iter(training["seconds"]["results"].values()))
        peaks = next(iter(training["bytes"]["results"].values())) if "bytes" in training else {}
        return Step(
            seconds=parts["whole training step"]["median"],
            backward=parts["backward"]["median"],
            images=report["settings"]["batch"],
            peak_bytes=max(peaks.values()) if peaks else None,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"the report is not one of this version's tools/benchmark.py ({error!r}); run it again"
        ) from None
