"""What the processes of a job compute together."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from detectron2.utils import comm
from torch import Tensor, distributed

from ..errors import UserError

T = TypeVar("T")

_alone = False


@contextmanager
def alone() -> Iterator[None]:
    """Within it, means over processes are this process's own: nothing waits for another one.

    For what every process computes by itself, and how often depends on its share of the data.
    """
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def check_on_all_processes(check: Callable[[], T], *, everywhere: bool = False) -> T | None:
    """Run a check once per machine; where it fails, fail on every process of the job.

    Args:
        check: what to call.
        everywhere: call it on every process.

    Returns:
        what the check returned, None where it was not called.

    Raises:
        UserError: with the message of the check that failed.
    """
    result = message = None
    if everywhere or comm.get_local_rank() == 0:
        try:
            result = check()
        except UserError as error:
            message = str(error)
    for failure in comm.all_gather(message):
        if failure is not None:
            raise UserError(failure)
    return result


def on_main_process(function: Callable[[], T]) -> T:
    """Call a function on the first process of the job; all return what it returned there.

    Args:
        function: its result can be pickled.

    Raises:
        UserError: on every process, where the function raised it.
    """
    result = message = None
    if comm.is_main_process():
        try:
            result = function()
        except UserError as error:
            message = str(error)
    result, message = comm.all_gather((result, message))[0]
    if message is not None:
        raise UserError(message)
    return result


def mean_over_processes(values: Tensor) -> Tensor:
    """The mean of a tensor over all processes; the tensor itself where there is one.

    Such as the number of positives, of which `modeling/losses/normalisers.py` makes normalisers.
    See also `alone`.
    """
    world_size = comm.get_world_size()
    if world_size == 1 or _alone:
        return values
    values = values.clone()
    distributed.all_reduce(values)
    return values / world_size


def of_all_processes(values: Tensor) -> Tensor:
    """The tensors (S,) of all processes, by rank -> (processes, S), on every process."""
    world_size = comm.get_world_size()
    if world_size == 1:
        return values[None]
    everyone = values.new_empty(world_size, len(values))
    distributed.all_gather(list(everyone), values)
    return everyone
