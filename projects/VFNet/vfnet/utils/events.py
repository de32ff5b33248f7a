"""Scalars of a training step on their way to the event storage.

Numbers that a GPU computed reach the host when it has computed everything before them. A trainer
that fetches numbers of its own can take these along, so that the host waits once a step.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from detectron2.utils.events import get_event_storage, has_event_storage
from torch import Tensor

_collections: list[dict[str, Tensor]] = []


@contextmanager
def collected_scalars() -> Iterator[dict[str, Tensor]]:
    """Within it, `put_scalars` writes nothing: it adds to the dict that this gives."""
    scalars: dict[str, Tensor] = {}
    _collections.append(scalars)
    try:
        yield scalars
    finally:
        _collections.pop()


def put_scalars(scalars: Mapping[str, Tensor]) -> None:
    """Write 0-dim tensors of one device to the event storage, or leave that to who collects them.

    Without either, as in a loop of one's own, nothing happens.
    """
    if _collections:
        _collections[-1].update(scalars)
    elif has_event_storage():
        # One transfer for all of them.
        values = torch.stack([value.float() for value in scalars.values()]).tolist()
        get_event_storage().put_scalars(**dict(zip(scalars, values)))
