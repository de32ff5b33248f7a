"""Batches that a model is given beside its training, and that it does not learn from."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

_NUMBERS = (int, float)


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Afterwards put back what modules in train mode count: in buffers, or as plain numbers.

    Such are the statistics of batch norms. Within it, Detectron2's models draw no pictures.
    """
    counting = [module for module in model.modules() if module.training]
    buffers = [(b, b.clone()) for module in counting for b in module.buffers(recurse=False)]
    numbers = [
        (module, {name: value for name, value in vars(module).items() if type(value) in _NUMBERS})
        for module in counting
    ]
    for module in counting:
        if hasattr(module, "vis_period"):
            module.vis_period = 0  # it would draw every picture
    try:
        yield
    finally:
        for buffer, value in buffers:
            buffer.copy_(value)
        for module, values in numbers:
            vars(module).update(values)
