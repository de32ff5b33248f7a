"""Test-time augmentation of detectors that are not this project's own: the two methods it needs."""

import pytest
import torch
from detectron2.modeling import build_model
from torch import nn

from tests.engine.tiny import picture
from tests.engine.tiny_libra import libra_config
from tests.engine.tiny_retinanet import retinanet_config
from tests.modeling.inference.tta_views import augmented_model, with_tta
from vfnet.engine import check_run
from vfnet.errors import UserError
from vfnet.modeling.inference.views import ViewDetector, as_view_detector

CASCADE = (
    *("MODEL.ROI_HEADS.NAME", "CascadeROIHeads", "MODEL.ROI_HEADS.SAMPLER", "random"),
    *("MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE", "smooth_l1"),
    *("MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", "True"),
)
STANDARD = ("MODEL.ROI_HEADS.NAME", "StandardROIHeads", *CASCADE[2:6])


def build(name):
    """A detector of random weights that are not shy: some dozens of detections."""
    if name == "retinanet":
        cfg = retinanet_config("", "MODEL.RETINANET.SCORE_THRESH_TEST", "0.5")
    else:
        more = {"libra": (), "standard": STANDARD, "cascade": CASCADE}[name]
        cfg = libra_config("", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.3", *more)
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    if name == "retinanet":
        nn.init.normal_(model.head.cls_score.weight, std=0.2)
        nn.init.zeros_(model.head.cls_score.bias)
        nn.init.normal_(model.head.bbox_pred.weight, std=0.05)
    else:
        predictors = model.roi_heads.box_predictor
        for predictor in predictors if name == "cascade" else [predictors]:
            nn.init.normal_(predictor.cls_score.weight, std=2.0)
            nn.init.normal_(predictor.bbox_pred.weight, std=0.1)
    return model, cfg


@pytest.fixture(params=["retinanet", "libra", "standard", "cascade"])
def detector(request):
    return build(request.param)


def image_of_bytes():
    return picture(1)["image"].to(torch.uint8)


def detect(model, image):
    with torch.no_grad():
        return model([{"image": image, "height": 96, "width": 128}])[0]["instances"]


def fields(instances):
    return instances.pred_boxes.tensor, instances.scores, instances.pred_classes


def test_one_view_as_it_is_gives_exactly_the_models_own_detections(detector):
    model, cfg = detector
    image = image_of_bytes()
    own = detect(model, image)
    found = detect(augmented_model(with_tta(cfg, [0]), model), image)
    assert len(own) > 10 and found.image_size == own.image_size
    assert all(torch.equal(a, b) for a, b in zip(fields(found), fields(own)))
    # Nothing of the model has changed.
    assert all(torch.equal(a, b) for a, b in zip(fields(detect(model, image)), fields(own)))


def test_two_views_are_suppressed_once_together(detector):
    model, cfg = detector
    image = image_of_bytes()
    views = as_view_detector(model)
    with torch.no_grad():
        (plain,), (mirrored,) = (
            views.find_candidates([{"image": view}]) for view in (image, image.flip(2))
        )
    left, top, right, bottom = mirrored.boxes.unbind(dim=1)
    back = torch.stack((128 - right, top, 128 - left, bottom), dim=1)
    boxes, scores = torch.cat((plain.boxes, back)), torch.cat((plain.scores, mirrored.scores))
    classes = torch.cat((plain.classes, mirrored.classes))

    # By hand: the best first, and what overlaps one of its class by more than 0.5 goes.
    kept = []
    for i in scores.argsort(descending=True, stable=True).tolist():
        rivals = boxes[[k for k in kept if classes[k] == classes[i]]]
        low = torch.maximum(rivals[:, :2], boxes[i, :2])
        common = (torch.minimum(rivals[:, 2:], boxes[i, 2:]) - low).clamp(min=0).prod(dim=1)
        areas = (rivals[:, 2:] - rivals[:, :2]).prod(dim=1)
        area = (boxes[i, 2:] - boxes[i, :2]).prod()
        if (common / (areas + area - common) <= 0.5).all():
            kept.append(i)
        if len(kept) == 100:
            break
    found = detect(augmented_model(with_tta(cfg, [0], flip=True), model), image)
    assert any(k >= len(plain.scores) for k in kept) and any(k < len(plain.scores) for k in kept)
    torch.testing.assert_close(found.scores, scores[kept])
    torch.testing.assert_close(found.pred_boxes.tensor, boxes[kept])
    assert torch.equal(found.pred_classes, classes[kept])


def test_candidates_are_not_suppressed_and_suppressed_they_are_the_detections(detector):
    model, _ = detector
    image = image_of_bytes()
    views = as_view_detector(model)
    assert isinstance(views, ViewDetector)
    with torch.no_grad():
        (candidates,) = views.find_candidates([{"image": image}])
    own = detect(model, image)
    assert len(candidates.scores) > len(own)
    again = views.suppress(candidates, (96, 128))
    assert all(torch.equal(a, b) for a, b in zip(fields(again), fields(own)))


def test_what_has_no_candidates_is_named():
    with pytest.raises(UserError, match="find_candidates and suppress.*got Linear"):
        augmented_model(with_tta(retinanet_config(""), [0]), nn.Linear(1, 1))
    cfg = retinanet_config("")
    cfg.MODEL.META_ARCHITECTURE = "RetinaNet"  # Detectron2's own
    with pytest.raises(UserError, match="got RetinaNet"):
        as_view_detector(build_model(cfg))
    model, _ = build("standard")
    model.proposal_generator = None
    with pytest.raises(UserError, match="got GeneralizedRCNN"):
        as_view_detector(model)


def test_a_run_that_ends_with_it_is_refused_before_it_starts(tmp_path):
    cfg = with_tta(retinanet_config(tmp_path / "run"), [64])
    check_run(cfg, [], "", training=True)
    cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
    cfg.MODEL.RETINANET.CLS_LOSS, cfg.MODEL.RETINANET.LOSS_NORMALIZER = "focal", "ema"
    with pytest.raises(UserError, match="got RetinaNet"):
        check_run(cfg, [], "", training=True)
