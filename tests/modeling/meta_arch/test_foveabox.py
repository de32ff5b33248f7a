"""FoveaBox: what its losses learn, by arithmetic on paper; parity is in test_family.py."""

import math

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils import comm

from tests.minis import load_mini, mini_config, model_input
from vfnet.errors import UserError
from vfnet.modeling.heads.foveabox import HeadOutput
from vfnet.modeling.matching.targets import Targets

SIZES = [(2, 2), (1, 1), (1, 1), (1, 1), (1, 1)]
R, NEGATIVES = 8, 2 * 8 * 5 - 1


@pytest.fixture
def build(shared):
    def build(**keys):
        cfg = mini_config(shared / "reference" / "family", "mini_fovea")
        for key, value in keys.items():
            cfg.MODEL.FOVEABOX[key] = value
        return build_model(cfg)

    return build


@pytest.fixture
def mini_fovea(shared):
    return load_mini(shared / "reference" / "family", "mini_fovea")


def one_positive(model, box=(0.0, 0.0, 32.0, 32.0), image=0, valid=True):
    """Predictions of an image of 16 x 16 and one of 64 x 64 pixels, and their targets.

    Both have 2 x 2 locations on P3 and one on each other level. Location 3 of P3, of `image`,
    stands at (12, 12) and learns class 2 and `box`. All predictions are 0: with base edges of 16
    pixels its predicted box is -4..28.
    """

    def maps(channels):
        return [torch.zeros(2, channels, h, w, requires_grad=True) for h, w in SIZES]

    predictions = HeadOutput(maps(5), maps(4))
    mask = torch.full((2 * R,), True)
    mask[-1] = valid
    positive = (torch.tensor([image * R + 3]), torch.tensor([2]), torch.tensor([box]))
    sizes = torch.tensor([[16, 16], [64, 64]])
    targets = Targets(*positive, mask, torch.tensor(0), sizes)
    return predictions, model.points(predictions.logits), targets


def test_locations_are_the_centres_of_cells(build):
    points = build().points([torch.zeros(1, 1, h, w) for h, w in SIZES])
    assert points[:4].tolist() == [[4, 4], [12, 4], [4, 12], [12, 12]]
    assert points[4:, 0].tolist() == [8, 16, 32, 64]


def test_losses_by_hand(build):
    """Distances 12, 12, 20, 20 to the box are 3/4 and 5/4 base edges; predicted is 1 of each."""
    model = build()
    losses = model.losses(*one_positive(model))
    differences = 2 * (-math.log(3 / 4) + math.log(5 / 4))
    # Smooth L1 beyond its beta of 0.11, of one positive.
    assert losses["loss_box"].item() == pytest.approx(differences - 4 * 0.11 / 2, rel=1e-5)
    focal = (0.4 + 0.6 * NEGATIVES) * 0.5**1.5 * math.log(2)
    # One positive, and two images.
    assert losses["loss_cls"].item() == pytest.approx(focal / 3, rel=1e-5)


@pytest.mark.parametrize("side, edges", [(1.0, 1 / 16), (4000.0, 16)])
def test_a_distance_is_learnt_as_a_sixteenth_of_its_base_edge_at_least_and_sixteen_at_most(
    build, side, edges
):
    model = build()
    box = (12 - side / 2, 12 - side / 2, 12 + side / 2, 12 + side / 2)
    losses = model.losses(*one_positive(model, box))
    expected = 4 * (abs(math.log(edges)) - 0.11 / 2)
    assert losses["loss_box"].item() == pytest.approx(expected, rel=1e-5)


# Of the box -4..28, cut to 0..15, 225 of the ground truth's 1024 pixels are left.
QUALITY = 225 / 1024


@pytest.mark.parametrize("image", [0, 1])
def test_the_quality_is_that_of_the_box_within_the_first_image(build, image):
    """In the second image, of 64 x 64, all of 0..28 would count: an IoU of 784/1024."""
    model = build(CLS_LOSS="varifocal")
    losses = model.losses(*one_positive(model, image=image))
    expected = NEGATIVES * 0.75 * 0.25 * math.log(2) + QUALITY * math.log(2)
    assert losses["loss_cls"].item() == pytest.approx(expected / 3, rel=1e-5)


@pytest.mark.parametrize("image, own_pixels", [(0, 15 * 15), (1, 28 * 28)])
def test_by_key_the_quality_is_that_of_the_box_within_its_own_image(build, image, own_pixels):
    model = build(CLS_LOSS="varifocal", CLIP_TO_FIRST_IMAGE=False)
    losses = model.losses(*one_positive(model, image=image))
    expected = (NEGATIVES * 0.75 * 0.25 + own_pixels / 1024) * math.log(2)
    assert losses["loss_cls"].item() == pytest.approx(expected / 3, rel=1e-5)


def test_quality_focal_loss_learns_the_same_quality(build):
    model = build(CLS_LOSS="quality_focal")
    losses = model.losses(*one_positive(model))
    expected = (NEGATIVES * 0.25 + (QUALITY - 0.5) ** 2) * math.log(2)
    assert losses["loss_cls"].item() == pytest.approx(expected / 3, rel=1e-5)


def test_a_box_that_misses_stays_a_positive(build):
    """An IoU of 0 is kept at 1e-6: the gradient of the logit is q (p - q), not a negative's."""
    model = build(CLS_LOSS="varifocal")
    predictions, points, targets = one_positive(model, box=(40.0, 40.0, 60.0, 60.0), image=1)
    model.losses(predictions, points, targets)["loss_cls"].backward()
    assert predictions.logits[0].grad[1, 2, 1, 1].item() == pytest.approx(0.5e-6 / 3, rel=1e-3)


@pytest.mark.parametrize("cls_loss", ["varifocal", "quality_focal", "focal"])
def test_padding_learns_background_under_every_loss(build, cls_loss):
    model = build(CLS_LOSS=cls_loss)
    predictions, points, targets = one_positive(model, valid=False)
    model.losses(predictions, points, targets)["loss_cls"].backward()
    assert (predictions.logits[-1].grad[1] > 0).all()


def test_losses_are_divided_by_the_numbers_of_this_process_alone(build, monkeypatch):
    model = build()
    alone = model.losses(*one_positive(model))

    def reduce(*tensors):
        raise AssertionError("the processes were to stay alone")

    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", reduce)
    assert model.losses(*one_positive(model)) == alone


def test_boxes_end_a_pixel_before_the_image(mini_fovea):
    model, expected, _ = mini_fovea
    model.eval()
    with torch.no_grad():
        images, features, output = model.predict([model_input(expected["image_bgr"])])
        (found,) = model.candidates(images, features, output)
    height, width = images.image_sizes[0]
    assert (found.boxes[:, 2].max(), found.boxes[:, 3].max()) == (width - 1, height - 1)


def test_the_aligned_form_trains_and_detects_without_any_box_too(build, mini_fovea):
    _, expected, _ = mini_fovea
    model = build(ALIGN=True, NORM="GN")
    empty = (torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    for boxes, classes in (empty, (expected["gt_boxes"], expected["gt_classes"])):
        model.train().zero_grad()
        losses = model([model_input(expected["image_bgr"], boxes, classes)])
        assert all(loss.isfinite() for loss in losses.values())
        sum(losses.values()).backward()
        learnt = [p for p in model.parameters() if p.requires_grad]
        assert all(p.grad is not None and p.grad.isfinite().all() for p in learnt)
    assert model.head.align.offset.weight.grad.abs().max() > 0
    model.eval()
    torch.nn.init.constant_(model.head.cls_pred.bias, 0.0)
    with torch.no_grad():
        (result,) = model([model_input(expected["image_bgr"])])
    assert len(result["instances"]) > 0


@pytest.mark.parametrize("key", ["SCALE_RANGES", "BASE_EDGES"])
def test_each_level_needs_its_range_and_its_base_edge(build, key):
    with pytest.raises(UserError, match=f"MODEL.FOVEABOX.{key}.*5 levels.*got 4"):
        build(**{key: build().base_edges[:4]})
