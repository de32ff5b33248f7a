"""One step: precision, generators, and what happens when a loss is not finite."""

import random

import numpy as np
import pytest
import torch
from detectron2.engine import SimpleTrainer
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from torch import nn

from vfnet.engine import NonFiniteLossError, StepTrainer, step
from vfnet.engine.step import autocast_precision, seed_generators
from vfnet.errors import UserError

from .tiny import picture, tiny_config


class Line(nn.Module):
    """Losses weight * value, with what the batch says as value, and a random number."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.drawn = []

    def forward(self, batch):
        self.drawn.append(torch.rand(()).item())
        value = sum(record["value"] for record in batch)
        return {"loss_a": self.weight * value, "loss_b": self.weight * 1.0}


def run(batches, **options):
    """Take one step per batch with rate 0.1; return the model."""
    model = Line()
    trainer = StepTrainer(model, batches, torch.optim.SGD(model.parameters(), lr=0.1), **options)
    with EventStorage():
        for trainer.iter in range(len(batches)):
            trainer.run_step()
    return model


def test_a_step_follows_the_gradient():
    # d(loss_a + loss_b) / d weight = 2 + 1
    assert run([[{"value": 2.0}]]).weight.item() == pytest.approx(1 - 0.1 * 3)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_before_the_step(value):
    model = Line()
    batch = [{"value": value, "file_name": "b.jpg"}, {"value": 0.0, "image_id": 7}]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = StepTrainer(model, [batch], optimizer)
    trainer.iter = 41
    with EventStorage(), pytest.raises(NonFiniteLossError) as caught:
        trainer.run_step()
    message = str(caught.value)
    assert f"iteration 41: loss_a = {value} (process 0; images: b.jpg, 7)" in message
    assert "loss_b" not in message
    assert model.weight.item() == 1 and not optimizer.state
    assert isinstance(caught.value, UserError) and isinstance(caught.value, FloatingPointError)


def test_a_gradient_that_is_not_finite_stops_before_the_step():
    class Root(nn.Module):
        """Finite at 0, where its derivative is infinite."""

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(()))
            self.bias = nn.Parameter(torch.zeros(()))
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, batch):
            return {"loss": self.scale * (self.weight.sqrt() + self.bias.sqrt() + 1)}

    model = Root()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = StepTrainer(model, [[{"file_name": "b.jpg"}]], optimizer)
    trainer.iter = 0
    expected = r"gradient not finite at iteration 0: bias and 1 more \(process 0; images: b\.jpg\)"
    with EventStorage(), pytest.raises(NonFiniteLossError, match=expected):
        trainer.run_step()
    assert model.weight.item() == 0


def test_a_gradient_that_all_processes_share_is_named_once(monkeypatch):
    monkeypatch.setattr(step, "of_all_processes", lambda own: torch.stack([own, own]))
    monkeypatch.setattr(step.comm, "all_gather", lambda name: [name, "c.jpg"])
    model = nn.Linear(1, 1)
    for parameter, gradient in zip(model.parameters(), (0.0, float("inf"))):
        parameter.grad = torch.full_like(parameter, gradient)
    given = ({"loss": torch.ones(())}, torch.tensor(float("inf")), [{"file_name": "b.jpg"}], 4)
    with pytest.raises(NonFiniteLossError) as caught:
        step.check_finite(*given, model=model)
    expected = "gradient not finite at iteration 4: bias (process 0; images: b.jpg) (process 1; "
    assert str(caught.value).startswith(expected + "images: c.jpg). ")


def scalars_of(trainer):
    """What a trainer writes in its first step."""
    trainer.iter = 0
    with EventStorage() as storage:
        trainer.run_step()
    return {name: value for name, (value, _) in storage.latest().items()}


def test_a_step_writes_what_detectrons_own_writes(tmp_path):
    cfg = tiny_config(tmp_path)
    scalars = []
    for kind in (SimpleTrainer, StepTrainer):
        torch.manual_seed(0)
        model = build_model(cfg)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scalars.append(scalars_of(kind(model, [[picture(1), picture(2)]], optimizer)))
    expected, actual = scalars
    assert {"vfnet/num_pos", "loss_cls", "total_loss", "rank_data_time"} < set(expected)
    assert set(actual) == set(expected)
    for name in set(expected) - {"data_time", "rank_data_time"}:
        assert actual[name] == pytest.approx(expected[name], rel=1e-6), name


def test_losses_are_averaged_over_the_processes_and_the_slowest_loader_counts(monkeypatch):
    # Another process whose scalars are all larger by 2.
    monkeypatch.setattr(step, "of_all_processes", lambda own: torch.stack([own, own + 2]))
    model = Line()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    found = scalars_of(StepTrainer(model, [[{"value": 5.0}]], optimizer))
    assert found["loss_a"] == pytest.approx(6) and found["loss_b"] == pytest.approx(2)
    assert found["total_loss"] == pytest.approx(8)
    assert found["data_time"] == pytest.approx(found["rank_data_time"] + 2)


def test_what_a_step_draws_follows_from_seed_and_iteration():
    batches = [[{"value": 1.0}]] * 3
    first = run(batches, seed=5).drawn
    torch.rand(7)
    assert run(batches, seed=5).drawn == first
    assert len({*first, *run(batches, seed=6).drawn}) == 6


def test_all_generators_are_seeded_from_all_three_numbers():
    def draw(*numbers):
        seed_generators(*numbers)
        return random.random(), np.random.rand(), torch.rand(()).item()

    draws = [draw(1, 2, 3), draw(2, 2, 3), draw(1, 3, 3), draw(1, 2, 4)]
    assert draw(1, 2, 3) == draws[0]
    assert all(len(set(column)) == 4 for column in zip(*draws))


def test_a_continued_run_keeps_its_seed():
    saved = StepTrainer(Line(), [], torch.optim.SGD(Line().parameters(), lr=1.0), seed=5)
    continued = StepTrainer(Line(), [], torch.optim.SGD(Line().parameters(), lr=1.0), seed=6)
    continued.load_state_dict(saved.state_dict())
    assert continued.seed == 5


@pytest.mark.parametrize(
    "enabled, precision, device, expected",
    [
        (False, "float16", "cpu", None),
        (True, "bfloat16", "cpu", torch.bfloat16),
        (True, "bfloat16", "cuda", torch.bfloat16),
        (True, "float16", "cuda", torch.float16),
    ],
)
def test_precision(enabled, precision, device, expected):
    assert autocast_precision(enabled, precision, device) is expected


@pytest.mark.parametrize(
    "precision, pattern", [("float16", "needs a GPU.*bfloat16"), ("half", "'half'")]
)
def test_precisions_that_cannot_be_had(precision, pattern):
    with pytest.raises(UserError, match=pattern):
        autocast_precision(True, precision, "cpu")


def test_autocast_reaches_the_model_and_leaves_the_weights():
    class Multiply(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, batch):
            out = self.layer(batch)
            self.out_type = out.dtype
            return {"loss": out.float().sum()}

    model = Multiply()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = StepTrainer(model, [torch.ones(1, 2)], optimizer, precision=torch.bfloat16)
    with EventStorage():
        trainer.run_step()
    assert model.out_type is torch.bfloat16
    assert model.layer.weight.dtype is torch.float32
    assert "grad_scaler" not in trainer.state_dict()
