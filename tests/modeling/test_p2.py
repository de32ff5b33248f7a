"""A level P2: every detector learns and detects with six levels, whose numbers strides give."""

import pytest
import torch
from detectron2.modeling import build_backbone, build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from tests.config_files import CONFIGS as FOLDER
from tests.engine.tiny import picture, tiny_config
from tests.engine.tiny_family import CONFIGS
from vfnet.errors import UserError
from vfnet.inspection.assignment import find_assignment
from vfnet.modeling import atss_match

LEVELS = ["p2", "p3", "p4", "p5", "p6", "p7"]
STRIDES = [4, 8, 16, 32, 64, 128]
# Of a picture of 64 x 64 pixels.
SIZES = [(16, 16), (8, 8), (4, 4), (2, 2), (1, 1), (1, 1)]
DETECTORS = {"vfnet": tiny_config} | {n: make for n, make in CONFIGS.items() if n != "libra"}


def with_p2(name):
    cfg = DETECTORS[name]("")
    cfg.merge_from_file(str(FOLDER / "override" / "p2.yaml"))
    return cfg


def one_box(side, corner=(9.0, 9.0)):
    """A picture of 64 x 64 pixels with one square box."""
    item = picture(0, size=(64, 64))
    item["instances"] = gt = Instances((64, 64))
    gt.gt_boxes = Boxes(torch.tensor([[*corner, corner[0] + side, corner[1] + side]]))
    gt.gt_classes = torch.tensor([0])
    return item


@pytest.mark.parametrize("name", DETECTORS)
def test_six_levels_learn_and_detect(name):
    torch.manual_seed(0)
    model = build_model(with_p2(name)).train()
    assert [model.backbone.output_shape()[level].stride for level in LEVELS] == STRIDES
    with EventStorage():
        losses = model([picture(1), one_box(6.0)])
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    # What only P2 passes through has a gradient.
    for layer in (model.backbone.fpn_lateral2, model.backbone.fpn_output2):
        assert layer.weight.grad.abs().max() > 0
    model.eval()
    with torch.no_grad():
        _, features, _ = model.predict([picture(1)])
        (found,) = model([picture(1)])
    assert [tuple(level.shape[-2:]) for level in features] == [
        (24, 32), (12, 16), (6, 8), (3, 4), (2, 2), (1, 1)
    ]  # fmt: skip
    assert found["instances"].pred_boxes.tensor.isfinite().all()


@pytest.mark.parametrize("name", DETECTORS)
def test_a_small_box_is_learnt_on_p2(name):
    model = build_model(with_p2(name)).eval()
    # RetinaNet's anchor of 16 pixels at (12, 12) overlaps such a box by 196/256.
    assignment = find_assignment(model, one_box(14.0, (5.0, 5.0)))
    assert [level.name for level in assignment.levels] == LEVELS
    assert [level.stride for level in assignment.levels] == STRIDES
    assert len(assignment.levels[0].points) > 0


def test_atss_gives_a_box_between_the_locations_of_p3_one_of_p2():
    # From 9 to 15 pixels: P3 stands at 8 and 16, P2 at 12 too: row 3, column 3. The IoUs of nine
    # anchors each on P2 to P4 are 36/1024, 36/4096 and 36/16384, of all (four and one on the
    # coarser levels) the mean is 0.0133 and the deviation 0.0152: P2's are above the sum.
    box = torch.tensor([[9.0, 9.0, 15.0, 15.0]])
    location, gt_index = atss_match(box, SIZES, STRIDES)
    assert (location.tolist(), gt_index.tolist()) == ([3 * 16 + 3], [0])
    assert len(atss_match(box, SIZES[1:], STRIDES[1:])[0]) == 0


def test_vfnets_unit_of_distances_is_eight_strides():
    model = build_model(with_p2("vfnet")).eval()
    torch.nn.init.zeros_(model.head.box_pred.weight)
    with torch.no_grad():
        _, _, predictions = model.predict([picture(1)])
    assert [float(level.unique()) for level in predictions.distances] == [8 * s for s in STRIDES]


@pytest.mark.parametrize(
    ("side", "level"),
    # The octave of side / POINT_BASE_SCALE 4 is that of the stride; below it, the finest level.
    [(6.0, "p2"), (16.0, "p2"), (31.0, "p2"), (32.0, "p3"), (63.0, "p3")],
)
def test_reppoints_level_of_a_box(side, level):
    model = build_model(with_p2("reppoints")).eval()
    levels = find_assignment(model, one_box(side, (0.0, 0.0))).levels
    assert [found.name for found in levels if len(found.points)] == [level]


@pytest.mark.parametrize(
    ("side", "levels"),
    [(15.0, ["p2"]), (16.0, ["p2", "p3"]), (32.0, ["p2", "p3", "p4"]), (40.0, ["p3", "p4"])],
)
def test_foveabox_levels_of_a_box(side, levels):
    model = build_model(with_p2("foveabox")).eval()
    found = find_assignment(model, one_box(side, (4.0, 4.0))).levels
    assert [level.name for level in found if len(level.points)] == levels
    # The distance from a cell's centre to a side, in base edges, is what is learnt.
    assert model.base_edges == [2 * stride for stride in STRIDES]


def test_foveabox_with_five_entries_for_six_levels_is_an_error():
    cfg = with_p2("foveabox")
    cfg.MODEL.FOVEABOX.BASE_EDGES = [16, 32, 64, 128, 256]
    with pytest.raises(UserError, match=r"BASE_EDGES must have an entry for each of the 6 levels"):
        build_model(cfg)


@pytest.mark.parametrize("neck", ["res2net_fpn", "res2net_pafpn"])
def test_other_pyramids_have_p2(neck):
    cfg = with_p2("vfnet")
    cfg.MODEL.RESNETS.DEPTH = 50
    cfg.MODEL.BACKBONE.NAME = f"build_vfnet_{neck}_backbone"
    backbone = build_backbone(cfg)
    shapes = backbone.output_shape()
    assert {name: shape.stride for name, shape in shapes.items()} == dict(zip(LEVELS, STRIDES))
    features = backbone(torch.zeros(1, 3, 64, 64))
    assert [tuple(features[name].shape[-2:]) for name in LEVELS] == SIZES


@pytest.mark.parametrize("levels", [["p2", "p3"], ["p4", "p3"], ["p3", "p8"], []])
def test_levels_that_the_backbone_does_not_give_are_an_error(levels):
    cfg = tiny_config("")
    cfg.MODEL.VFNET.IN_FEATURES = levels
    message = r"MODEL.VFNET.IN_FEATURES must name levels that the backbone gives"
    with pytest.raises(UserError, match=message):
        build_model(cfg)


@pytest.mark.parametrize("stages", [[], ["res3", "res4"], ["res2", "res4", "res5"], ["p3"]])
def test_stages_that_make_no_pyramid_are_an_error(stages):
    cfg = tiny_config("")
    cfg.MODEL.FPN.IN_FEATURES = stages
    with pytest.raises(UserError, match=r"MODEL.FPN.IN_FEATURES must name stages"):
        build_model(cfg)
