"""RepPoints: what its losses learn, by arithmetic on paper; parity is in test_family.py."""

import math

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils import comm

from tests.minis import load_mini, mini_config, model_input
from vfnet.errors import UserError
from vfnet.modeling.heads.reppoints import HeadOutput
from vfnet.modeling.matching.targets import Targets

SIZES = [(2, 2), (1, 1), (1, 1), (1, 1), (1, 1)]
R, NEGATIVES = 8, 2 * 8 * 5 - 1


@pytest.fixture
def build(shared):
    def build(**keys):
        cfg = mini_config(shared / "reference" / "family", "mini_reppoints")
        for key, value in keys.items():
            cfg.MODEL.REPPOINTS[key] = value
        return build_model(cfg)

    return build


def square(half_side):
    """(dy, dx) of nine points, in a square grid, of this standard deviation along both axes.

    Of -a, 0 and a, three times each, the unbiased variance is 6 a^2 / 8.
    """
    a = half_side / math.sqrt(6 / 8)
    return [side for y in (-a, 0, a) for x in (-a, 0, a) for side in (y, x)]


def one_positive(model, box=(0.0, 0.0, 32.0, 32.0), valid=True):
    """Predictions of two images of 16 x 16 pixels, and targets of the first one.

    Each has 2 x 2 locations on P3 and one on each other level. All points, initial and refined, lie
    in a square whose moments are 0 and two cells. The initial points of location 0, at (0, 0),
    predict -16..16 and learn 0..32; the refined ones of location 3, at (8, 8), predict -8..24 and
    learn `box`, with class 2.
    """

    def maps(channels, values=0.0):
        levels = [torch.zeros(2, channels, h, w) for h, w in SIZES]
        return [(x + torch.tensor(values).view(1, -1, 1, 1)).requires_grad_() for x in levels]

    predictions = HeadOutput(maps(5), maps(18, square(2)), maps(18, square(2)), torch.zeros(2))
    mask = torch.full((2 * R,), True)
    mask[-1] = valid
    rest = (mask, torch.tensor(0), torch.full((2, 2), 16))
    initial = Targets(
        torch.tensor([0]), torch.tensor([2]), torch.tensor([[0.0, 0.0, 32.0, 32.0]]), *rest
    )
    targets = Targets(torch.tensor([3]), torch.tensor([2]), torch.tensor([box]), *rest, initial)
    return predictions, model.points(predictions.logits), targets


def test_losses_by_hand(build):
    model = build()
    losses = model.losses(*one_positive(model))
    # Sides are half of 4 x 8 pixels away, then a quarter. Of two images, one has no positive: it
    # counts as one.
    init, refined = 4 * (16 / 32 - 0.11 / 2), 4 * (8 / 32 - 0.11 / 2)
    assert losses["loss_points_init"].item() == pytest.approx(0.5 * init / 2, rel=1e-5)
    assert losses["loss_points_refined"].item() == pytest.approx(refined / 2, rel=1e-5)
    focal = (0.25 + 0.75 * NEGATIVES) * 0.25 * math.log(2)
    assert losses["loss_cls"].item() == pytest.approx(focal / 2, rel=1e-5)


# The squares of 32 pixels overlap in 24 x 24.
QUALITY = 576 / (2 * 1024 - 576)


def test_the_quality_is_the_refined_boxs_iou(build):
    model = build(CLS_LOSS="varifocal")
    losses = model.losses(*one_positive(model))
    expected = (NEGATIVES * 0.75 * 0.25 + QUALITY) * math.log(2)
    assert losses["loss_cls"].item() == pytest.approx(expected / 2, rel=1e-5)
    model = build(CLS_LOSS="quality_focal")
    losses = model.losses(*one_positive(model))
    expected = (NEGATIVES * 0.25 + (QUALITY - 0.5) ** 2) * math.log(2)
    assert losses["loss_cls"].item() == pytest.approx(expected / 2, rel=1e-5)


@pytest.mark.parametrize("cls_loss, negative", [("varifocal", 0.75), ("quality_focal", 1.0)])
def test_a_box_that_misses_turns_its_positive_into_a_negative(build, cls_loss, negative):
    """An IoU of 0 is not kept above 0, unlike in VFNet, ATSS and FoveaBox."""
    model = build(CLS_LOSS=cls_loss)
    losses = model.losses(*one_positive(model, box=(40.0, 40.0, 60.0, 60.0)))
    expected = (NEGATIVES + 1) * negative * 0.25 * math.log(2)
    assert losses["loss_cls"].item() == pytest.approx(expected / 2, rel=1e-5)


def test_by_key_a_box_that_misses_stays_a_positive(build):
    """Under varifocal loss with the weight q = 1e-6: what is left are the negatives."""
    model = build(CLS_LOSS="varifocal", QUALITY_MIN=1e-6)
    losses = model.losses(*one_positive(model, box=(40.0, 40.0, 60.0, 60.0)))
    expected = (NEGATIVES * 0.75 * 0.25 + 1e-6) * math.log(2)
    assert losses["loss_cls"].item() == pytest.approx(expected / 2, rel=1e-5)


@pytest.mark.parametrize("cls_loss", ["varifocal", "quality_focal", "focal"])
def test_padding_and_what_is_neither_positive_nor_negative_learn_under_no_loss(build, cls_loss):
    model = build(CLS_LOSS=cls_loss)
    predictions, points, targets = one_positive(model, valid=False)
    model.losses(predictions, points, targets)["loss_cls"].backward()
    assert (predictions.logits[-1].grad[1] == 0).all()
    assert (predictions.logits[-1].grad[0] > 0).all()


def test_losses_are_divided_by_the_numbers_of_this_process_alone(build, monkeypatch):
    model = build()
    alone = model.losses(*one_positive(model))

    def reduce(*tensors):
        raise AssertionError("the processes were to stay alone")

    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", reduce)
    assert model.losses(*one_positive(model)) == alone


def test_both_stages_weights_are_keys(build):
    model = build(BOX_LOSS_WEIGHT=3.0, REFINED_BOX_LOSS_WEIGHT=7.0, POINT_BASE_SCALE=8)
    losses = model.losses(*one_positive(model))
    init, refined = 4 * (16 / 64 - 0.11 / 2), 4 * (8 / 64 - 0.11 / 2)
    assert losses["loss_points_init"].item() == pytest.approx(3 * init / 2, rel=1e-5)
    assert losses["loss_points_refined"].item() == pytest.approx(7 * refined / 2, rel=1e-5)


def test_each_stage_has_its_own_targets(shared):
    model, expected, _ = load_mini(shared / "reference" / "family", "mini_reppoints")
    batch = [model_input(expected["image_bgr"], expected["gt_boxes"], expected["gt_classes"])]
    with torch.no_grad():
        images, features, predictions = model.predict(batch)
        targets = model.assign(images, features, predictions, [batch[0]["instances"]])
    # Of the first, a location a box, by place; of the second, by the predicted boxes.
    assert len(targets.initial.index) == len(expected["gt_boxes"])
    assert targets.gts_without_positive == 0
    assert not set(targets.index.tolist()) <= set(targets.initial.index.tolist())


@pytest.mark.parametrize(
    "key, value, message",
    [("TRANSFORM", "minmax", "must be 'moment', got 'minmax'"), ("NUM_POINTS", 25, "must be 9")],
)
def test_other_transforms_and_numbers_of_points_are_errors(build, key, value, message):
    with pytest.raises(UserError, match=f"MODEL.REPPOINTS.{key} {message}"):
        build(**{key: value})
