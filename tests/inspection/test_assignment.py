"""Which location learns which box: what training assigns, and that it is drawn there."""

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances, pairwise_iou

from tests.engine.tiny import picture, tiny_config
from tests.engine.tiny_family import CONFIGS
from vfnet.errors import UserError
from vfnet.inspection.assignment import check_assignment_model, find_assignment
from vfnet.inspection.assignment_figure import NOT_LEARNT, draw_assignment
from vfnet.modeling import atss_match
from vfnet.modeling.matching.max_iou import max_iou_match
from vfnet.visualization import class_color

DETECTORS = {"vfnet": tiny_config, **CONFIGS}
NAMES = ["cell", "plate", "tray"]
# Of a picture of 96 x 128: 12 x 16 cells of 8 pixels and so on.
SIZES, STRIDES = [(12, 16), (6, 8), (3, 4), (2, 2), (1, 1)], [8, 16, 32, 64, 128]


def two_sizes():
    """A picture with boxes that P3 learns, and one that P4 does."""
    item, gt = picture(1), Instances((96, 128))
    boxes = [[10.0, 10, 50, 40], [60.0, 30, 110, 90], [2.0, 3, 126, 93]]
    gt.gt_boxes, gt.gt_classes = Boxes(torch.tensor(boxes)), torch.tensor([0, 1, 2])
    return {**item, "instances": gt}


def assignment_of(name, tmp_path, item, **options):
    torch.manual_seed(0)
    model = build_model(DETECTORS[name](tmp_path)).eval()
    return find_assignment(model, item, **options), model


@pytest.mark.parametrize("name", ["vfnet", "atss", "gfl"])
def test_locations_are_those_of_atss(tmp_path, name):
    item = two_sizes()
    boxes = item["instances"].gt_boxes.tensor
    assignment, _ = assignment_of(name, tmp_path, item)
    locations, gt_index = atss_match(boxes, SIZES, STRIDES)
    assert [(level.size, level.stride) for level in assignment.levels] == list(zip(SIZES, STRIDES))
    assert gt_index.unique().tolist() == [0, 1, 2]
    assert locations.min() < 12 * 16 <= locations.max()  # on more than one level
    found = [
        (stride, *point, index)
        for (_, stride, _, points, indices) in assignment.levels
        for point, index in zip(points.tolist(), indices.tolist())
    ]
    wanted, first = [], 0
    for (height, width), stride in zip(SIZES, STRIDES):
        for location, index in zip(locations.tolist(), gt_index.tolist()):
            cell = location - first
            if 0 <= cell < height * width:
                wanted.append((stride, cell % width * stride, cell // width * stride, index))
        first += height * width
    assert found == wanted
    assert assignment.learners().tolist() == gt_index.bincount(minlength=len(boxes)).tolist()
    assert torch.equal(assignment.gt_boxes, boxes)


def test_the_anchors_of_retinanet_are_counted_at_their_locations(tmp_path):
    item = two_sizes()
    assignment, model = assignment_of("retinanet", tmp_path, item)
    assert assignment.unit == "anchors"
    levels = model.anchor_generator([torch.zeros(1, 1, *size) for size in SIZES])
    anchors = Boxes.cat(levels)
    gt_index, labels = max_iou_match(pairwise_iou(item["instances"].gt_boxes, anchors))
    (positive,) = (labels == 1).nonzero(as_tuple=True)
    wanted = torch.cat((anchors.get_centers(), gt_index[:, None]), dim=1)[positive]
    found = torch.cat([torch.column_stack((x.points, x.gt_index)) for x in assignment.levels])
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
    assert sorted(gt_index[positive].unique().tolist()) == [0, 1, 2]


def test_foveabox_learns_at_the_centres_of_cells_inside_the_box(tmp_path):
    assignment, _ = assignment_of("foveabox", tmp_path, picture(1))
    for level in assignment.levels:
        assert (level.points % level.stride == level.stride / 2).all()
        own = assignment.gt_boxes[level.gt_index]
        assert ((level.points > own[:, :2]) & (level.points < own[:, 2:])).all()
    assert sum(len(level.points) for level in assignment.levels) > 0


def test_reppoints_shows_its_first_stage_without_weights_and_its_second_with_them(tmp_path):
    item = picture(1)
    first, model = assignment_of("reppoints", tmp_path, item)
    assert first.learners().max() == 1  # one location a box
    second = find_assignment(model, item, trained=True)
    with torch.no_grad():
        targets = model.assign(*model.predict([item]), [item["instances"]])
    assert int(second.learners().sum()) == len(targets.index)
    learnt = torch.cat([second.gt_boxes[level.gt_index] for level in second.levels])
    assert torch.equal(learnt, targets.boxes)


def test_equal_boxes_are_told_apart_by_their_class(tmp_path):
    item, gt = picture(1), Instances((96, 128))
    gt.gt_boxes = Boxes(torch.tensor([[20.0, 20, 60, 60], [20.0, 20, 60, 60], [20.0, 20, 60, 60]]))
    gt.gt_classes = torch.tensor([2, 1, 1])
    assignment, _ = assignment_of("vfnet", tmp_path, {**item, "instances": gt})
    learners = assignment.learners().tolist()  # the lowest of equal overlaps wins
    assert learners[0] > 0 and learners[1:] == [0, 0]


@pytest.mark.parametrize("name", ["vfnet", "foveabox", "reppoints", "retinanet"])
def test_a_picture_without_boxes_teaches_no_location(tmp_path, name):
    assignment, _ = assignment_of(name, tmp_path, picture(1, num_boxes=0))
    assert len(assignment.learners()) == 0
    figure = draw_assignment(np.zeros((96, 128, 3), np.uint8), assignment, NAMES)
    assert figure.axes[1].get_title() == "P3, stride 8, 16 x 12 cells: no box"


def test_detectors_without_locations_are_refused(tmp_path):
    with pytest.raises(UserError, match="learn boxes, .*; got GeneralizedRCNN"):
        check_assignment_model(build_model(CONFIGS["libra"](tmp_path)))


def test_each_level_s_panel_has_its_locations_in_the_colours_of_their_boxes(tmp_path):
    item = picture(1)
    assignment, _ = assignment_of("vfnet", tmp_path, item)
    # One box more, that nothing learns.
    lost = torch.cat((assignment.gt_boxes, torch.tensor([[1.0, 1, 3, 3]])))
    assignment = assignment._replace(
        gt_boxes=lost, gt_classes=torch.cat((assignment.gt_classes, torch.tensor([0])))
    )
    figure = draw_assignment(np.zeros((96, 128, 3), np.uint8), assignment, NAMES)
    overview, *panels = figure.axes
    assert "7 boxes" in overview.get_title() and "1 without any" in overview.get_title()
    assert overview.texts[-1].get_text() == "cell 0"
    assert overview.texts[-1].get_color() == NOT_LEARNT
    for axes, level in zip(panels, assignment.levels):
        (squares,) = axes.collections
        corners = [path.vertices for path in squares.get_paths()]
        assert len(corners) == len(level.points)
        for corner, point in zip(corners, level.points.numpy()):
            np.testing.assert_allclose(corner[:4].mean(axis=0), point, atol=1e-4)
        colors = [class_color(index) for index in level.gt_index.tolist()]
        if colors:
            np.testing.assert_allclose(squares.get_facecolor()[:, :3], colors)
        assert len(axes.patches) == len(set(level.gt_index.tolist()))
