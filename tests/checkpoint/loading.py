"""What tests of the checkpointer share."""

import pytest
import torch

from vfnet.checkpoint import VFNetCheckpointer
from vfnet.errors import UserError


def snapshot(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(model, before):
    return all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def save(model, folder, name="model"):
    VFNetCheckpointer(model, str(folder)).save(name)
    return str(folder / f"{name}.pth")


def refused(model, path, match, **options):
    """Load, expect a UserError that leaves the model as it was, and return its message."""
    before = snapshot(model)
    with pytest.raises(UserError, match=match) as caught:
        VFNetCheckpointer(model, **options).load(path)
    assert same(model, before)
    return str(caught.value)
