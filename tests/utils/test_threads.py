"""vfnet.utils.threads: order, bounds, and errors of other threads."""

import threading

import pytest

from vfnet.utils.threads import in_background, read_ahead


def test_items_come_in_their_order_made_by_another_thread():
    threads = set()

    def items():
        for number in range(50):
            threads.add(threading.get_ident())
            yield number

    assert list(read_ahead(items(), 4)) == list(range(50))
    assert len(threads) == 1 and threading.get_ident() not in threads


def test_no_more_items_are_made_than_asked_for():
    made = []

    def items():
        for number in range(50):
            made.append(number)
            yield number

    for item in read_ahead(items(), 3):
        assert len(made) <= item + 4
        if item == 20:
            break
    assert len(made) <= 24


def test_an_error_comes_where_its_item_would():
    def items():
        yield 1
        raise OSError("gone")

    ahead = read_ahead(items(), 4)
    assert next(ahead) == 1
    with pytest.raises(OSError, match="gone"):
        next(ahead)


def test_calls_are_made_in_their_order_and_all_when_the_block_ends():
    done = []
    with in_background(done.append, 2) as call:
        for number in range(20):
            call(number)
            assert len(done) >= number - 2
    assert done == list(range(20))


def test_an_error_of_a_call_is_raised():
    def fail(number):
        raise OSError(f"number {number}")

    with pytest.raises(OSError, match="number 0"), in_background(fail, 2) as call:
        for number in range(20):
            call(number)
