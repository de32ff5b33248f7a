"""What a model has to know of a whole batch while it is given a part of it.

Gradients may be accumulated over the parts of a batch (`vfnet.engine.accumulation`). Its losses are
divided by sums over all pictures, so the model sees every part twice: a first time, without
gradient, to count, and a second time to learn. Whatever in a model is a sum over pictures goes
through `of_whole_batch`; without parts, these functions return what they are given.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import add
from typing import Any, TypeVar

from torch import Tensor

Sum = TypeVar("Sum", int, Tensor)
Result = TypeVar("Result")


class WholeBatch:
    """The sums of a batch in parts, by the order in which a part asks for them.

    Every part has to ask for the same ones in the same order: never in a branch that depends on
    the data.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        """`size`: the greatest height and the greatest width of its pictures, in pixels."""
        self.size = size
        self._sums: list[Any] = []
        self._results: list[Any] = []
        self._firsts: list[Any] = []
        self._counting = False
        self._asked = self._asked_first = 0

    @contextmanager
    def part(self, *, counting: bool) -> Iterator[None]:
        """Within it, a model is given the next part: to count what it sums, or to learn."""
        global _current
        self._counting, self._asked, self._asked_first = counting, 0, 0
        _current = self
        try:
            yield
        finally:
            _current = None

    def sum(
        self, value: Any, finish: Callable[[Any], Any], combine: Callable[[Any, Any], Any]
    ) -> Any:
        """See `of_whole_batch`."""
        place, self._asked = self._asked, self._asked + 1
        if self._counting:
            if place == len(self._sums):
                self._sums.append(value)
            else:
                self._sums[place] = combine(self._sums[place], value)
            return value
        if place == len(self._results):
            self._results.append(finish(self._sums[place]))
        return self._results[place]

    def first(self, value: Any) -> Any:
        """See `of_first_part`."""
        place, self._asked_first = self._asked_first, self._asked_first + 1
        if place == len(self._firsts):
            self._firsts.append(value)
        return self._firsts[place]


# One at a time, as there is one training step at a time.
_current: WholeBatch | None = None


def of_whole_batch(
    value: Sum,
    finish: Callable[[Sum], Result] | None = None,
    combine: Callable[[Sum, Sum], Sum] = add,
) -> Any:
    """A sum over the pictures of the whole batch, of this process.

    Args:
        value: the sum over the pictures that the model was given.
        finish: what is made of the whole sum, once a step, such as the mean over all processes.
        combine: of two parts' values that of both, where it is no sum.

    Returns:
        what `finish` makes of it, the sum itself without one. While parts are counted, `value`.
    """
    if finish is None:
        finish = _itself
    return finish(value) if _current is None else _current.sum(value, finish, combine)


def of_first_part(value: Tensor) -> Tensor:
    """`value`, or what it was for the first part of the batch."""
    return value if _current is None else _current.first(value)


def size_of_whole_batch() -> tuple[int, int] | None:
    """The greatest height and width of the whole batch's pictures; None: there are no parts."""
    return None if _current is None else _current.size


def _itself(value: Any) -> Any:
    return value
