"""The arithmetic of more workers, by hand."""

import pytest

from vfnet.errors import UserError
from vfnet.evaluation.scaling import (
    BUCKET,
    Link,
    Recipe,
    Step,
    all_reduce_seconds,
    ddp_peak_bytes,
    exposed_seconds,
    gradient_seconds,
    loaders_needed,
    scale,
    step_of_report,
)

# A bucket takes a second to a neighbour, a message half a second to begin.
LINK = Link(bandwidth=BUCKET, latency=0.5)


def test_an_all_reduce_of_four_is_six_messages_of_a_quarter():
    # 2 x 3 messages, each 100 bytes at 50 bytes a second and 0.25 s of latency.
    assert all_reduce_seconds(400, 4, Link(50, 0.25)) == 6 * (2 + 0.25)
    # With no latency and many workers, twice the size passes each link.
    assert all_reduce_seconds(400, 10**6, Link(50, 0)) == pytest.approx(2 * 400 / 50, rel=1e-5)


def test_one_worker_does_not_communicate():
    assert all_reduce_seconds(400, 1, LINK) == 0
    assert gradient_seconds(5 * BUCKET, 1, LINK) == 0
    assert exposed_seconds(5 * BUCKET, 1, LINK, backward=1.0) == 0


def test_each_bucket_pays_the_latency():
    # Of two workers: 2 messages of half a bucket, 0.5 s each, and of their latency, 0.5 s each.
    assert all_reduce_seconds(BUCKET, 2, LINK) == 2.0
    assert gradient_seconds(3 * BUCKET, 2, LINK) == 6.0
    # A last one of half the size: 0.5 s on the way and 1 s of latency.
    assert gradient_seconds(3 * BUCKET + BUCKET // 2, 2, LINK) == 7.5


@pytest.mark.parametrize(
    ("backward", "expected"),
    [
        (0.0, 6.0),  # nothing to hide behind
        (2.5, 3.5),
        (5.0, 2.0),  # the last bucket comes after it
        (100.0, 2.0),
    ],
)
def test_the_backward_pass_hides_all_but_the_last_bucket(backward, expected):
    assert exposed_seconds(3 * BUCKET, 2, LINK, backward) == expected


def test_a_gradient_smaller_than_a_bucket_shows_whole():
    assert exposed_seconds(BUCKET // 2, 2, LINK, backward=100.0) == 1.5


def test_two_workers():
    recipe = Recipe(batch=16, learning_rate=0.01, iterations=90000)
    job = scale(Step(seconds=8.0, backward=4.5, images=4), 2, recipe, 3 * BUCKET, LINK)
    assert (job.workers, job.batch, job.iterations) == (2, 8, 180000)
    assert job.learning_rate == pytest.approx(0.005)
    assert job.communication == 6.0
    assert job.share_alone == pytest.approx(6 / 14)
    assert job.share_overlapped == pytest.approx(2 / 10)  # 1.5 s remain, the last bucket is 2 s
    assert job.images_a_second == pytest.approx(8 / 10)
    assert job.efficiency == pytest.approx(8 / 10)


def test_512_workers_of_two_images_ask_for_64_times_the_rate():
    recipe = Recipe(batch=16, learning_rate=0.01, iterations=87960)
    job = scale(Step(0.5, 0.3, images=2), 512, recipe, BUCKET, Link(1e10, 0))
    assert (job.batch, job.iterations) == (1024, 1374)
    assert job.learning_rate == pytest.approx(0.64)


@pytest.mark.parametrize(("trained", "of_one", "needed"), [(20, 60, 1), (60, 60, 1), (61, 60, 2)])
def test_loaders(trained, of_one, needed):
    assert loaders_needed(trained, of_one) == needed


def report(**training):
    parts = {"backward": {"median": 4.5}, "whole training step": {"median": 7.25}}
    other = {"backward": {"median": 1.0}, "whole training step": {"median": 2.0}}
    seconds = {"results": {"vfnet_R50_1x": parts, "Detectron2's RetinaNet": other}}
    return {"settings": {"batch": 2}, "training": {"seconds": seconds, **training}}


def test_a_report_gives_the_first_models_step():
    assert step_of_report(report()) == Step(7.25, 4.5, images=2, peak_bytes=None)
    peaks = {"process before": 100, "whole training step": 700}
    step = step_of_report(report(bytes={"results": {"vfnet_R50_1x": peaks}}))
    assert step.peak_bytes == 700
    assert ddp_peak_bytes(step, gradient_bytes=130) == 830
    assert ddp_peak_bytes(step_of_report(report()), gradient_bytes=130) is None


def test_a_report_without_training_is_refused():
    with pytest.raises(UserError, match="got one with settings, inference: run it without"):
        step_of_report({"settings": {}, "inference": {}})
