import math

import pytest
import torch
from torch.nn import functional as F

from tests.builders import classification_loss
from tests.compare import relative_difference
from vfnet.errors import UserError
from vfnet.modeling.losses.box import (
    balanced_l1_loss,
    centerness,
    iou_and_giou,
    iou_weighted_giou_loss,
)
from vfnet.modeling.losses.classification import (
    Positives,
    focal_loss,
    quality_focal_loss,
    quality_focal_loss_of_probabilities,
    varifocal_loss,
)
from vfnet.modeling.losses.distribution import distribution_focal_loss

SETTINGS = [
    (0.75, 2.0, True),
    (0.75, 2.0, False),
    (0.5, 1.0, True),
    (1.25, 2.5, True),
    (1.0, 3.0, True),
    (0.75, 1.5, True),
]


@pytest.fixture(scope="module")
def reference(request):
    return torch.load(request.path.parents[2] / "reference" / "losses.pt", weights_only=True)


def dense_targets(labels, scores, num_classes):
    """(A,) labels, `num_classes` for background, and their scores -> (A, K)."""
    targets = torch.zeros(len(labels), num_classes + 1)
    targets[torch.arange(len(labels)), labels] = scores
    return targets[:, :num_classes]


@pytest.mark.parity
@pytest.mark.parametrize(("alpha", "gamma", "iou_weighted"), SETTINGS)
def test_varifocal_loss_and_gradient_are_the_references(reference, alpha, gamma, iou_weighted):
    expected = reference[f"varifocal_alpha{alpha}_gamma{gamma}_weighted{int(iou_weighted)}"]
    logits = reference["logits"].clone().requires_grad_()
    loss = varifocal_loss(logits, reference["target"], alpha, gamma, iou_weighted)
    loss.sum().backward()
    assert relative_difference(loss, expected["loss"]) < 1e-6
    assert relative_difference(logits.grad, expected["grad"]) < 1e-6


@pytest.mark.parity
def test_quality_focal_loss_and_gradient_are_the_references(reference):
    expected = reference["quality_focal_beta2"]
    logits = reference["logits"].clone().requires_grad_()
    targets = dense_targets(expected["labels"], expected["score"], 7)
    loss = quality_focal_loss(logits, targets).sum(dim=1)
    loss.sum().backward()
    assert relative_difference(loss, expected["loss_per_location"]) < 1e-6
    assert relative_difference(logits.grad, expected["grad"]) < 1e-6


@pytest.mark.parity
def test_focal_loss_and_gradient_are_the_references(reference):
    expected = reference["focal_alpha0.25_gamma2"]
    logits = reference["logits"].clone().requires_grad_()
    targets = dense_targets(expected["labels"], torch.ones(64), 7)
    loss = focal_loss(logits, targets)
    loss.sum().backward()
    assert relative_difference(loss, expected["loss"]) < 1e-6
    assert relative_difference(logits.grad, expected["grad"]) < 1e-6


@pytest.mark.parity
def test_giou_and_gradient_are_the_references(reference):
    expected = reference["giou"]
    boxes = expected["pred"].clone().requires_grad_()
    loss = 1 - iou_and_giou(boxes, expected["target"])[1]
    loss.sum().backward()
    assert relative_difference(loss, expected["loss"]) < 1e-6
    assert relative_difference(boxes.grad, expected["grad"]) < 1e-6


def test_varifocal_loss_by_hand():
    # sigmoid(0) = 1/2: a positive of q = 0.8 costs 0.8 ln 2, a negative 0.75 / 4 ln 2.
    loss = varifocal_loss(torch.zeros(2), torch.tensor([0.8, 0.0]))
    assert loss.tolist() == pytest.approx([0.8 * math.log(2), 0.75 / 4 * math.log(2)])


def test_varifocal_loss_of_a_positive_is_least_where_the_score_is_the_iou():
    logits = torch.linspace(-4, 4, 801)
    loss = varifocal_loss(logits, torch.full_like(logits, 0.7))
    assert logits[loss.argmin()].sigmoid().item() == pytest.approx(0.7, abs=0.01)


def test_varifocal_weight_of_negatives_takes_gradients():
    # d/dx of 0.75 p^2 (-ln(1 - p)) = 0.75 (2 p^2 (1 - p) (-ln(1 - p)) + p^3), by hand at p = 1/2.
    logit = torch.zeros(1, requires_grad=True)
    varifocal_loss(logit, torch.zeros(1)).sum().backward()
    assert logit.grad.item() == pytest.approx(0.75 * (0.25 * math.log(2) + 0.125))


def test_varifocal_loss_without_modulation_is_cross_entropy():
    logits, targets = torch.randn(50), torch.rand(50) * (torch.rand(50) > 0.5)
    loss = varifocal_loss(logits, targets, alpha=1.0, gamma=0.0, iou_weighted=False)
    expected = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("loss", [varifocal_loss, quality_focal_loss, focal_loss])
def test_losses_are_float32_and_finite_for_extreme_half_precision_logits(loss):
    logits = torch.tensor([-6e4, -50.0, 0.0, 50.0, 6e4], dtype=torch.float16).repeat(2, 1)
    targets = torch.tensor([[0.0], [0.9]]).expand(2, 5)
    logits.requires_grad_()
    value = loss(logits, targets)
    assert value.dtype == torch.float32
    assert value.isfinite().all()
    value.mean().backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("loss", [varifocal_loss, quality_focal_loss, focal_loss])
def test_reductions(loss):
    logits, targets = torch.randn(3, 4), torch.rand(3, 4)
    values = loss(logits, targets, reduction="none")
    assert values.shape == (3, 4)
    torch.testing.assert_close(loss(logits, targets, reduction="sum"), values.sum())
    torch.testing.assert_close(loss(logits, targets, reduction="mean"), values.mean())
    with pytest.raises(ValueError, match="'none', 'sum' or 'mean', got 'max'"):
        loss(logits, targets, reduction="max")


def test_iou_and_giou_by_hand():
    boxes = torch.tensor([[0.0, 0, 2, 2], [0, 0, 1, 1], [0, 0, 4, 4]])
    targets = torch.tensor([[1.0, 0, 3, 2], [2, 0, 3, 1], [0, 0, 4, 4]])
    iou, giou = iou_and_giou(boxes, targets)
    # Half over: 2 of 6, nothing else enclosed. Apart: a gap of 1 in an enclosing 3. The same box.
    assert iou.tolist() == pytest.approx([1 / 3, 0, 1])
    assert giou.tolist() == pytest.approx([1 / 3, -1 / 3, 1])


def test_iou_weight_takes_no_gradient_and_stays_above_zero():
    boxes = torch.tensor([[0.0, 0, 2, 2], [8, 8, 9, 9]], requires_grad=True)
    targets = torch.tensor([[1.0, 0, 3, 2], [0, 0, 1, 1]])
    loss, q = iou_weighted_giou_loss(boxes, targets)
    assert q.tolist() == pytest.approx([1 / 3, 1e-6])
    assert not q.requires_grad
    loss.backward()
    weighted = boxes.grad.clone()
    boxes.grad = None
    (1 - iou_and_giou(boxes, targets)[1]).sum().backward()
    torch.testing.assert_close(weighted, boxes.grad * q[:, None])


def test_box_loss_of_no_box_is_zero_with_a_gradient():
    boxes = torch.zeros(0, 4, requires_grad=True)
    loss, q = iou_weighted_giou_loss(boxes, torch.zeros(0, 4))
    loss.backward()
    assert loss.item() == 0
    assert len(q) == 0
    assert boxes.grad.shape == (0, 4)


def test_padding_learns_under_varifocal_loss_alone():
    logits, valid = torch.zeros(2, 3), torch.tensor([True, False])
    none = Positives(*torch.zeros(2, 0, dtype=torch.int64), torch.zeros(0))
    sums = {
        name: classification_loss(name)(logits, none, valid).item()
        for name in ("varifocal", "quality_focal", "focal")
    }
    assert sums["varifocal"] == pytest.approx(6 * 0.75 / 4 * math.log(2))
    assert sums["quality_focal"] == pytest.approx(3 / 4 * math.log(2))
    assert sums["focal"] == pytest.approx(3 * 0.75 / 4 * math.log(2))


def test_unknown_classification_loss_is_an_error():
    with pytest.raises(UserError, match="CLS_LOSS must be .* got 'hinge'"):
        classification_loss("hinge")


@pytest.mark.parity
def test_balanced_l1_loss_is_the_references(reference):
    expected = reference["balanced_l1_alpha0.5_gamma1.5_beta1"]
    pred = expected["pred"].clone().requires_grad_()
    loss = balanced_l1_loss(pred, expected["target"])
    loss.sum().backward()
    assert relative_difference(loss.detach(), expected["loss"]) < 1e-6
    assert relative_difference(pred.grad, expected["grad"]) < 1e-6


@pytest.mark.parametrize("beta", [1.0, 0.11])
def test_both_parts_of_balanced_l1_loss_meet_at_beta(beta):
    """gamma beta + gamma / b - alpha beta, with b = e^3 - 1."""
    difference = torch.tensor([beta * (1 - 1e-6), beta, 1e4], requires_grad=True)
    loss = balanced_l1_loss(difference, torch.zeros(3), beta=beta)
    loss.sum().backward()
    at_beta = 1.5 * beta + 1.5 / (math.exp(3) - 1) - 0.5 * beta
    assert loss[:2].tolist() == pytest.approx([at_beta, at_beta], rel=1e-5)
    assert difference.grad[1:].tolist() == [1.5, 1.5]
    if beta == 1:  # the inner part's derivative is alpha ln(b x + 1), so gamma at the end
        assert difference.grad[0].item() == pytest.approx(1.5, rel=1e-5)


def test_a_quality_of_0_is_background_but_not_under_focal_loss():
    """RetinaNet's unclamped IoU turns a positive that misses its box into a negative."""
    logits = torch.tensor([[0.3, -0.2], [0.1, 0.4]])
    missed = Positives(torch.tensor([1]), torch.tensor([0]), torch.tensor([0.0]))
    nothing = Positives(*(part[:0] for part in missed))
    valid = torch.ones(2, dtype=torch.bool)

    def gradient(name, positives):
        x = logits.clone().requires_grad_()
        loss = classification_loss(name)(x, positives, valid)
        loss.backward()
        return torch.cat((loss.detach()[None], x.grad.flatten()))

    for name in ("varifocal", "quality_focal"):
        torch.testing.assert_close(gradient(name, missed), gradient(name, nothing))
    assert gradient("focal", missed)[3] < 0 < gradient("focal", nothing)[3]


def test_varifocal_loss_can_leave_rows_out():
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    positives = Positives(torch.tensor([0]), torch.tensor([2]), torch.tensor([0.7]))
    valid = torch.tensor([True, True, True, False, True, False])

    def gradient(everywhere, rows):
        x = logits.clone().requires_grad_()
        loss = classification_loss("varifocal", everywhere)(x[rows], positives, valid[rows])
        loss.backward()
        return torch.cat((loss.detach()[None], x.grad.flatten()))

    torch.testing.assert_close(gradient(False, slice(None)), gradient(True, valid))
    assert gradient(True, slice(None))[0] > gradient(True, valid)[0]


@pytest.mark.parity
def test_distribution_focal_loss_is_the_references(reference):
    expected = reference["distribution_focal_regmax16"]
    logits = expected["pred"].clone().requires_grad_()
    loss = distribution_focal_loss(logits, expected["target"])
    loss.sum().backward()
    assert relative_difference(loss.detach(), expected["loss"]) < 1e-6
    assert relative_difference(logits.grad, expected["grad"]) < 1e-6


def test_distribution_focal_loss_is_least_where_both_bins_share_as_the_target_says():
    """At 2.25 with three quarters on bin 2: the entropy of (3/4, 1/4)."""
    target = torch.tensor([2.25])
    probabilities = torch.tensor([[1e-9, 1e-9, 0.75, 0.25, 1e-9]], dtype=torch.float64).float()
    logits = probabilities.log().requires_grad_()
    loss = distribution_focal_loss(logits, target)
    loss.sum().backward()
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert loss.item() == pytest.approx(entropy, rel=1e-5)
    assert logits.grad.abs().max() < 1e-6


def test_quality_focal_loss_of_probabilities_is_that_of_their_logits():
    logits = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    targets = torch.rand(20, 3, generator=torch.Generator().manual_seed(1))
    expected = quality_focal_loss(logits, targets)
    torch.testing.assert_close(
        quality_focal_loss_of_probabilities(logits.sigmoid(), targets), expected
    )
    # Exactly 0 and 1 cost 100 each, times the distance, not infinity.
    certain = torch.tensor([0.0, 1.0], requires_grad=True)
    loss = quality_focal_loss_of_probabilities(certain, torch.tensor([1.0, 0.0]), reduction="sum")
    loss.backward()
    assert loss.item() == pytest.approx(200)
    assert certain.grad.isfinite().all()


def test_quality_focal_loss_of_probabilities_is_float32_under_autocast():
    probabilities, targets = torch.rand(4, 2).half().clamp(0.1, 0.9), torch.rand(4, 2)
    with torch.autocast("cpu", torch.bfloat16):
        loss = quality_focal_loss_of_probabilities(probabilities, targets)
    assert loss.dtype == torch.float32


def test_centerness_by_hand():
    """1 in the middle; sqrt(1/3 * 2/4) for 1, 2 of 3, 4 pixels."""
    found = centerness(torch.tensor([[3.0, 5.0, 3.0, 5.0], [1.0, 2.0, 3.0, 4.0]]))
    assert found.tolist() == pytest.approx([1.0, math.sqrt(1 / 6)])
