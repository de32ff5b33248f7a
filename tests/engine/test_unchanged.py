"""A model that is given batches beside its training goes on as if it had not been."""

import torch
from torch import nn

from vfnet.engine.unchanged import unchanged


class Counting(nn.Module):
    """Counts its batches in numbers of its own and in a batch norm's buffers."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(2)
        self.batches, self.vis_period = 3, 20

    def forward(self, x):
        self.batches += 1
        return self.norm(x)


def test_what_a_model_counts_is_put_back_and_nothing_is_drawn():
    model, batch = Counting(), torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    model(batch)
    before = [buffer.clone() for buffer in model.norm.buffers()]
    with torch.no_grad(), unchanged(model):
        model(batch)
        assert (model.batches, int(model.norm.num_batches_tracked)) == (5, 2)
        assert model.vis_period == 0
    assert (model.batches, model.vis_period) == (4, 20)
    assert all(map(torch.equal, model.norm.buffers(), before))
