"""ATSS: what its losses learn, by arithmetic on paper; the reference's numbers: test_family.py."""

import math

import pytest
import torch
from detectron2.modeling import build_model

from tests.minis import load_mini, mini_config, model_input
from vfnet.modeling.heads.atss import HeadOutput
from vfnet.modeling.locations import grid_points
from vfnet.modeling.matching.targets import Targets

STRIDES = (8, 16, 32, 64, 128)


@pytest.fixture
def mini_atss(repository):
    return load_mini(repository / "tests" / "reference", "mini_atss")


def build(repository, **keys):
    cfg = mini_config(repository / "tests" / "reference", "mini_atss")
    for key, value in keys.items():
        cfg.MODEL.ATSS[key] = value
    return build_model(cfg)


def one_positive(model, shift=0.0, valid=True):
    """Predictions of two images of 2x2 and five 1x1 locations: one positive in the first image.

    Location 3 of P3 stands at (8, 8); its anchor, of 64 pixels, is the box -24..40. Every logit and
    delta is 0, but for a `shift` of the boxes of P3, in tenths of their side. Returns predictions,
    points and targets.
    """
    sizes = [(2, 2), (1, 1), (1, 1), (1, 1), (1, 1)]

    def maps(channels):
        return [torch.zeros(2, channels, h, w, requires_grad=True) for h, w in sizes]

    predictions = HeadOutput(maps(5), maps(4), maps(1) if model.head.centerness else [])
    with torch.no_grad():
        predictions.deltas[0][:, :2] = shift
    points = grid_points(sizes, STRIDES, torch.device("cpu"))
    mask = torch.full((2 * len(points),), True)
    mask[-1] = valid
    # Of the box 0, 0, 32, 32 the location has 8, 8 to the left and top, 24, 24 to the others.
    box = torch.tensor([[0.0, 0.0, 32.0, 32.0]])
    image_sizes = torch.full((2, 2), 16)
    targets = Targets(torch.tensor([3]), torch.tensor([2]), box, mask, torch.tensor(0), image_sizes)
    return predictions, points, targets


def test_losses_by_hand(repository):
    """IoU 32^2 / 64^2 = 1/4 with the anchor, which encloses the box: GIoU is the IoU."""
    model = build(repository)
    losses = model.losses(*one_positive(model))
    # Two images, one of them without a positive: it counts as one.
    num_positive = 2
    # The weight 1/3, its target of centerness, is divided by the sum of the weights, or 1.
    assert losses["loss_box"].item() == pytest.approx(2.0 * (1 / 3) * (1 - 1 / 4))
    ctr = -(1 / 3 * math.log(0.5) + 2 / 3 * math.log(0.5))
    assert losses["loss_centerness"].item() == pytest.approx(ctr / num_positive)
    negatives = 2 * 8 * 5 - 1
    focal = (0.25 + 0.75 * negatives) * 0.25 * math.log(2)
    assert losses["loss_cls"].item() == pytest.approx(focal / num_positive, rel=1e-5)


def test_without_centerness_boxes_weigh_the_same_and_the_score_stands_alone(repository):
    model = build(repository, CENTERNESS=False)
    predictions, points, targets = one_positive(model)
    losses = model.losses(predictions, points, targets)
    assert set(losses) == {"loss_cls", "loss_box"}
    assert losses["loss_box"].item() == pytest.approx(2.0 * (1 - 1 / 4) / 2)
    assert model.score_factor(predictions) is None
    assert not any("centerness" in name for name in model.state_dict())


@pytest.mark.parametrize(
    "cls_loss, padding_learns", [("varifocal", True), ("quality_focal", False), ("focal", False)]
)
def test_padding_learns_background_under_varifocal_loss_alone(repository, cls_loss, padding_learns):
    model = build(repository, CLS_LOSS=cls_loss)
    predictions, points, targets = one_positive(model, valid=False)
    model.losses(predictions, points, targets)["loss_cls"].backward()
    # The last location of the second image, on P7.
    assert (predictions.logits[-1].grad[1] > 0).all().item() == padding_learns
    assert (predictions.logits[0].grad[1] > 0).all()


def test_the_quality_is_the_boxs_iou(repository):
    """q = 1/4 at the class of the positive: q CE(1/2, q) = q ln 2 under varifocal loss."""
    model = build(repository, CLS_LOSS="varifocal")
    losses = model.losses(*one_positive(model))
    negatives = (2 * 8 * 5 - 1) * 0.75 * 0.25 * math.log(2)
    assert losses["loss_cls"].item() == pytest.approx((negatives + math.log(2) / 4) / 2, rel=1e-5)


def test_a_box_that_misses_stays_a_positive(repository):
    """An IoU of 0 is kept at 1e-6: the gradient of the logit is q (p - q), not a negative's."""
    model = build(repository, CLS_LOSS="varifocal")
    predictions, points, targets = one_positive(model, shift=100.0)
    model.losses(predictions, points, targets)["loss_cls"].backward()
    assert predictions.logits[0].grad[0, 2, 1, 1].item() == pytest.approx(0.5e-6 / 2, rel=1e-3)


def test_candidates_are_ranked_by_score_times_centerness(mini_atss):
    model, expected, _ = mini_atss
    model.eval()
    with torch.no_grad():
        images, features, output = model.predict([model_input(expected["image_bgr"])])
        (found,) = model.candidates(images, features, output)
    centerness = torch.cat([x.sigmoid().flatten() for x in output.centerness])
    products = model.scores(output) * centerness[:, None]
    assert len(found.scores) > 1000
    nearest = (found.scores[:, None] - products.flatten()).abs().amin(dim=1)
    assert nearest.max() < 1e-6
    assert found.scores.min() < 0.05  # the threshold met the score alone
