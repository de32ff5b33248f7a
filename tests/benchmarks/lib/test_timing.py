"""Measuring time: turns, parts, medians."""

import pytest

from lib.timing import Stopwatch, Summary, measure, summarise
from vfnet.errors import UserError


class Clock:
    """A clock that moves only when it is told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_variants_take_turns_and_warm_up_is_not_counted():
    clock, order = Clock(), []
    durations = {"a": iter([50.0, 60.0, 1.0, 5.0, 3.0]), "b": iter([70.0, 80.0, 2.0, 2.0, 8.0])}

    def run_of(name):
        def run(watch):
            order.append(name)
            clock.now += next(durations[name])
            watch.mark("work")

        return run

    runs = {name: run_of(name) for name in durations}
    samples = measure(runs, repeats=3, warm_up=2, new_watch=lambda: Stopwatch(clock))
    assert order == ["a", "b"] * 5
    assert samples == {"a": {"work": [1.0, 5.0, 3.0]}, "b": {"work": [2.0, 2.0, 8.0]}}
    # Quartiles of 1, 3, 5 lie halfway to the median.
    assert summarise(samples)["a"]["work"] == Summary(3.0, 2.0, 4.0)
    assert summarise(samples)["b"]["work"] == Summary(2.0, 2.0, 5.0)


def test_a_stopwatch_tells_parts_from_what_is_skipped():
    clock = Clock()
    watch = Stopwatch(clock)
    for part, seconds in [("a", 1.0), (None, 10.0), ("b", 2.0)]:
        clock.now += seconds
        if part:
            watch.mark(part)
        else:
            watch.skip()
    watch.total("a and b", ["a", "b"])
    clock.now += 4.0
    watch.mark("c")
    watch.total("all")  # what is a total already does not count twice
    assert watch.seconds == {"a": 1.0, "b": 2.0, "a and b": 3.0, "c": 4.0, "all": 7.0}


def test_a_stopwatch_waits_for_the_device_before_it_reads_the_clock():
    clock = Clock()

    def synchronize():
        clock.now += 5.0  # the device is that far behind

    watch = Stopwatch(clock, synchronize)
    clock.now += 1.0
    watch.mark("work")
    assert watch.seconds == {"work": 6.0}


@pytest.mark.parametrize(("repeats", "warm_up"), [(0, 0), (1, -1)])
def test_no_repeats_are_an_error(repeats, warm_up):
    with pytest.raises(UserError, match=f"got {repeats} and {warm_up}"):
        measure({}, repeats, warm_up)
