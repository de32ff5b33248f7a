"""GFL and GFLv2: what they learn, by arithmetic; the reference's numbers: test_family.py."""

import math

import pytest
import torch
from detectron2.modeling import build_model

from tests.minis import mini_config
from vfnet.errors import UserError
from vfnet.modeling.heads.gfl import HeadOutput, QualityPredictor
from vfnet.modeling.locations import grid_points
from vfnet.modeling.matching.targets import Targets

STRIDES = (8, 16, 32, 64, 128)
SIZES = [(2, 2), (1, 1), (1, 1), (1, 1), (1, 1)]


def build(repository, quality=False, **keys):
    cfg = mini_config(repository / "tests" / "reference", "mini_gfl")
    cfg.MODEL.GFL.QUALITY_PREDICTOR.ENABLED = quality
    for key, value in keys.items():
        cfg.MODEL.GFL[key] = value
    return build_model(cfg)


def one_positive(box, quality=False):
    """All logits 0, so every side is 8 strides on average: P3's location at (8, 8) finds -56..72.

    Returns predictions, points, and targets with that location learning `box`.
    """

    def maps(channels):
        return [torch.zeros(1, channels, h, w, requires_grad=True) for h, w in SIZES]

    predictions = HeadOutput(maps(5), maps(68), maps(1) if quality else [])
    points = grid_points(SIZES, STRIDES, torch.device("cpu"))
    valid = torch.ones(len(points), dtype=torch.bool)
    positive = (torch.tensor([3]), torch.tensor([2]), torch.tensor([box]))
    targets = Targets(*positive, valid, torch.tensor(0), torch.tensor([[16, 16]]))
    return predictions, points, targets


def test_losses_by_hand(repository):
    """The box -56..72 holds the ground truth -24..40, so IoU and GIoU are 64^2 / 128^2 = 1/4."""
    model = build(repository)
    losses = model.losses(*one_positive([-24.0, -24.0, 40.0, 40.0]))
    # The weight is the best score, 1/2; weights sum to 1 at least.
    assert losses["loss_box"].item() == pytest.approx(2.0 * 0.5 * (1 - 1 / 4))
    assert losses["loss_dfl"].item() == pytest.approx(0.25 * 0.5 * math.log(17))
    # |q - 1/2|^2 ln 2: q is 0 but for one, which is 1/4.
    expected = (39 * 0.25 + 0.25**2) * math.log(2)
    assert losses["loss_cls"].item() == pytest.approx(expected, rel=1e-5)


def test_a_side_beyond_the_last_bin_is_learnt_as_just_below_it(repository):
    """800 pixels are 100 strides: learnt as 15.9, a tenth on bin 15 and nine on 16."""
    model = build(repository)
    predictions, points, targets = one_positive([8.0 - 800, -24.0, 40.0, 40.0])
    model.losses(predictions, points, targets)["loss_dfl"].backward()
    left = predictions.distributions[0].grad[0, :17, 1, 1]
    # Softmax minus target, times the weight 1/2, a quarter for the side, and the factor 1/4.
    share = torch.full((17,), 1 / 17)
    share[15] -= 0.1
    share[16] -= 0.9
    torch.testing.assert_close(left, share * 0.5 / 4 * 0.25, rtol=1e-4, atol=1e-6)


def test_a_score_of_gflv2_is_the_class_times_the_quality(repository):
    """All 1/4: the weight of the box too; the quality learns with the class."""
    model = build(repository, quality=True)
    predictions, points, targets = one_positive([-24.0, -24.0, 40.0, 40.0], quality=True)
    assert (model.scores(predictions) == 0.25).all()
    losses = model.losses(predictions, points, targets)
    assert losses["loss_box"].item() == pytest.approx(2.0 * 0.25 * (1 - 1 / 4))
    # The positive's q equals its score, 1/4; of the others |1/4|^2 ln(4/3) is left.
    expected = 39 * 0.25**2 * math.log(4 / 3)
    assert losses["loss_cls"].item() == pytest.approx(expected, rel=1e-5)
    losses["loss_cls"].backward()
    assert predictions.qualities[0].grad.abs().min() > 0
    assert predictions.logits[0].grad[0, :2].abs().min() > 0


def test_the_quality_predictor_reads_the_highest_probabilities_and_their_mean():
    predictor = QualityPredictor(topk=2, channels=3, add_mean=True)
    read = []
    predictor[0].register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    logits = torch.log(torch.tensor([0.1, 0.6, 0.3] * 4)).view(1, 12, 1, 1)
    assert predictor(logits).shape == (1, 1, 1, 1)
    assert read[0].flatten().tolist() == pytest.approx([0.6, 0.3, 0.45] * 4)


def test_gflv2_learns_probabilities_by_quality_focal_loss_alone(repository):
    with pytest.raises(UserError, match="MODEL.GFL.CLS_LOSS must be 'quality_focal'.*'varifocal'"):
        build(repository, quality=True, CLS_LOSS="varifocal")
    build(repository, CLS_LOSS="varifocal")


def test_numbers_of_bins_that_cannot_be_are_errors(repository):
    with pytest.raises(UserError, match="TOPK must be 1 to 3, the number of bins, got 4"):
        build(repository, quality=True, REG_MAX=2)
    with pytest.raises(UserError, match="MODEL.GFL.REG_MAX must be 1 or more, got 0"):
        build(repository, REG_MAX=0)
