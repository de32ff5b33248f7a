"""Reading ahead of the work, and writing behind it, each in a thread of its own."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
_END: Any = object()


def read_ahead(items: Iterable[T], number: int) -> Iterator[T]:
    """Yield items in their order, while a thread makes the next ones, `number` at most.

    An exception in making one is raised where that one would have come.
    """
    iterator = iter(items)
    with ThreadPoolExecutor(1, "read_ahead") as pool:
        made = deque(pool.submit(next, iterator, _END) for _ in range(number))
        try:
            while (item := made.popleft().result()) is not _END:
                made.append(pool.submit(next, iterator, _END))
                yield item
        finally:
            for future in made:
                future.cancel()


@contextmanager
def in_background(function: Callable[..., None], number: int) -> Iterator[Callable[..., None]]:
    """Yield what calls `function` in a thread, call by call in their order; `number` may wait.

    A caller for whom too many wait, waits too. At the end of the block all calls are done, after an
    exception in it as well. An exception in a call is raised by a later call or at the end.
    """
    calls: deque[Future] = deque()

    def call(*arguments: Any) -> None:
        while len(calls) >= number:
            calls.popleft().result()
        calls.append(pool.submit(function, *arguments))

    with ThreadPoolExecutor(1, "in_background") as pool:
        yield call
        while calls:
            calls.popleft().result()
