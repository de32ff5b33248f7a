"""What the processes of a job compute together."""

from detectron2.utils import comm
from torch import Tensor, distributed


def mean_over_processes(values: Tensor) -> Tensor:
    """The mean of a tensor over all processes; the tensor itself where there is one."""
    world_size = comm.get_world_size()
    if world_size == 1:
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
