"""Statistics of batch norms for weights that were never trained as they are, as averaged ones."""

from collections.abc import Callable, Iterable

from detectron2.utils.events import EventStorage
from fvcore.nn.precise_bn import get_bn_modules, update_bn_stats
from torch import nn

from ...utils.comm import mean_over_processes

BuildBatches = Callable[[], Iterable[list]]


def estimate_batch_norms(model: nn.Module, build_batches: BuildBatches, num_batches: int) -> int:
    """Estimate the statistics of batch norms that would move in training.

    All processes have to call this together, and end with the statistics of all their batches.

    Args:
        model: not wrapped for several processes; its mode stays as it is.
        build_batches: makes the batches of this process.
        num_batches: how many to use.

    Returns:
        how many batch norms there were; 0: nothing was done.
    """
    was_training = model.training
    model.train()
    try:
        norms = get_bn_modules(model)
        if norms:
            # A storage of its own: what the model records now is not about the training.
            with EventStorage():
                update_bn_stats(model, build_batches(), num_batches)
            _share_statistics(norms)
        return len(norms)
    finally:
        model.train(was_training)


def _share_statistics(norms: Iterable[nn.Module]) -> None:
    """Give all processes the statistics of their batches together, in equal parts."""
    for norm in norms:
        mean = mean_over_processes(norm.running_mean)
        spread = (norm.running_mean - mean).square()
        norm.running_var = mean_over_processes(norm.running_var + spread)
        norm.running_mean = mean
