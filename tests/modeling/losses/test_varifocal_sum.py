"""The fused sum of varifocal loss against its plain form."""

import pytest
import torch

from vfnet.modeling.losses.classification import varifocal_loss
from vfnet.modeling.losses.varifocal_sum import varifocal_loss_sum

SETTINGS = [(0.75, 2.0, True), (0.75, 2.0, False), (0.5, 1.0, True), (1.25, 2.5, True)]


def batch(rows=700, classes=150, positives=90, dtype=torch.float32):
    """More logits than a block has, and places of positives without repetition."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(rows, classes, generator=generator, dtype=dtype) * 4 - 1
    row = torch.randperm(rows, generator=generator)[:positives]
    column = torch.randint(0, classes, (positives,), generator=generator)
    quality = torch.rand(positives, generator=generator, dtype=dtype).clamp(min=1e-6)
    return logits, row, column, quality


def plain(logits, row, column, quality, *settings):
    targets = torch.zeros_like(logits)
    targets[row, column] = quality
    return varifocal_loss(logits, targets, *settings, reduction="sum")


@pytest.mark.parametrize("settings", SETTINGS)
def test_value_and_gradient_are_those_of_the_plain_form(settings):
    logits, *positives = batch()
    results = []
    for loss in (varifocal_loss_sum, plain):
        x = logits.clone().requires_grad_()
        value = loss(x, *positives, *settings)
        (3 * value).backward()
        results.append((value.item(), x.grad))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-6)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-5, atol=1e-6)


def test_gradient_agrees_with_finite_differences():
    logits, *positives = batch(rows=6, classes=4, positives=3)
    loss = 1e-2 * torch.ones_like(logits)
    x = logits.clone().requires_grad_()
    varifocal_loss_sum(x, *positives).backward()
    for place in [(int(positives[0][0]), int(positives[1][0])), (0, 0), (5, 3)]:
        step = torch.zeros_like(logits)
        step[place] = loss[place]
        up = plain((logits + step).double(), *positives[:2], positives[2].double())
        down = plain((logits - step).double(), *positives[:2], positives[2].double())
        slope = (up - down).item() / 0.02
        assert x.grad[place].item() == pytest.approx(slope, rel=2e-3, abs=2e-4)


def test_without_positives_all_are_negatives():
    logits, *_ = batch()
    none = torch.zeros(2, 0, dtype=torch.int64)
    value = varifocal_loss_sum(logits, *none, torch.zeros(0))
    expected = varifocal_loss(logits, torch.zeros_like(logits), reduction="sum")
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)


def test_no_location_gives_zero_with_a_gradient():
    x = torch.zeros(0, 80, requires_grad=True)
    none = torch.zeros(2, 0, dtype=torch.int64)
    value = varifocal_loss_sum(x, *none, torch.zeros(0))
    value.backward()
    assert value.item() == 0
    assert x.grad.shape == (0, 80)


@pytest.mark.parametrize("extreme", [-1e4, 1e4])
def test_half_precision_logits_of_any_size_give_finite_float32(extreme):
    x = torch.full((3, 2), extreme, dtype=torch.bfloat16, requires_grad=True)
    place = torch.tensor([1]), torch.tensor([0])
    value = varifocal_loss_sum(x, *place, torch.tensor([0.5]))
    value.backward()
    assert value.dtype == torch.float32
    assert torch.isfinite(value)
    assert x.grad.dtype == torch.bfloat16
    assert torch.isfinite(x.grad).all()


def test_a_nan_logit_is_not_hidden():
    logits, *positives = batch()
    logits[300, 7] = float("nan")
    assert torch.isnan(varifocal_loss_sum(logits, *positives))
