"""Where a detector read: nine points, first and refined box, and that they are drawn there."""

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model

from tests.engine.tiny import picture, tiny_config
from tests.engine.tiny_family import CONFIGS
from vfnet.errors import UserError
from vfnet.inspection.star import check_star_model, find_stars, origins, star_points
from vfnet.inspection.star_figure import draw_stars
from vfnet.modeling import star_offsets
from vfnet.modeling.locations import flatten_levels

NAMES = ["cell", "plate", "tray"]
LEVELS = ["p3", "p4", "p5", "p6", "p7"]


def detector(cfg):
    torch.manual_seed(0)
    return build_model(cfg).eval()


@pytest.fixture
def vfnet(tmp_path):
    return detector(tiny_config(tmp_path, "MODEL.VFNET.SCORE_THRESH_TEST", "0.0"))


def test_the_nine_points_are_corners_middles_and_the_location():
    # One cell at 16, 24 whose box reaches 4 to the left, 8 up, 12 to the right, 20 down.
    distances = torch.tensor([4.0, 8.0, 12.0, 20.0]).view(1, 4, 1, 1)
    points = star_points(torch.tensor([[16.0, 24.0]]), distances, stride=8)
    expected = [[x, y] for y in (16.0, 24.0, 44.0) for x in (12.0, 16.0, 28.0)]
    torch.testing.assert_close(points, torch.tensor([expected]))


def test_points_are_what_the_star_s_offsets_say_at_each_detection_s_location(vfnet):
    item = picture(1)
    stars = find_stars(vfnet, item)
    _, features, predictions = vfnet.predict([item])
    at, row = vfnet.points(features), 0
    places = []
    for distances, stride in zip(predictions.distances, vfnet.strides):
        offsets = star_offsets(distances, stride)[0].flatten(1).T  # (cells, 18)
        own = at[row : row + len(offsets)]
        row += len(offsets)
        for tap in range(9):  # its place in the kernel, and the offset, in cells
            dy, dx = tap // 3 - 1 + offsets[:, 2 * tap], tap % 3 - 1 + offsets[:, 2 * tap + 1]
            places.append((own, torch.stack((own[:, 0] + dx * stride, own[:, 1] + dy * stride), 1)))
    assert len(stars.scores) > 20 and stars.refined
    for index in range(len(stars.scores)):
        first = 9 * int(stars.levels[index])
        own, _ = places[first]
        (cell,) = (own == stars.locations[index]).all(dim=1).nonzero()[0]
        wanted = torch.stack([places[first + tap][1][cell] for tap in range(9)])
        torch.testing.assert_close(stars.points[index], wanted, atol=1e-3, rtol=0)
    # And so they lie on the first box: at its corners, on its sides.
    x1, y1, x2, y2 = stars.first_boxes.unbind(1)
    torch.testing.assert_close(stars.points[:, 0], torch.stack((x1, y1), 1), atol=1e-3, rtol=0)
    torch.testing.assert_close(stars.points[:, 8], torch.stack((x2, y2), 1), atol=1e-3, rtol=0)
    torch.testing.assert_close(stars.points[:, 4], stars.locations, atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", ["vfnet", "reppoints"])
def test_detections_are_the_detector_s_own_in_pixels_of_the_result(tmp_path, name):
    config = {"vfnet": tiny_config, **CONFIGS}[name]
    model = detector(config(tmp_path, f"MODEL.{name.upper()}.SCORE_THRESH_TEST", "0.0"))
    item = {**picture(1), "height": 192, "width": 384}  # of a picture of 96 x 128
    with torch.no_grad():
        own = model([item])[0]["instances"]
    stars = find_stars(model, item)
    torch.testing.assert_close(stars.boxes, own.pred_boxes.tensor)
    assert torch.equal(stars.scores, own.scores) and torch.equal(stars.classes, own.pred_classes)
    inside = (stars.locations >= 0) & (stars.locations < torch.tensor([384, 192]))
    assert inside.all() and stars.locations[:, 0].max() > 128


def test_the_points_of_reppoints_are_those_of_its_first_stage(tmp_path):
    model = detector(CONFIGS["reppoints"](tmp_path, "MODEL.REPPOINTS.SCORE_THRESH_TEST", "0.0"))
    item = picture(1)
    stars = find_stars(model, item)
    _, features, predictions = model.predict([item])
    at = model.points(features)
    stride = model.location_strides(predictions)
    displaced = flatten_levels(predictions.points).view(-1, 9, 2).flip(2)
    everywhere = at[:, None] + displaced * stride[:, None]  # (R, 9, 2)
    for index, level in enumerate(stars.levels.tolist()):
        here = (at == stars.locations[index]).all(1) & (stride[:, 0] == model.strides[level])
        (location,) = here.nonzero()[0]
        torch.testing.assert_close(stars.points[index], everywhere[location])
        mean = stars.points[index].mean(0)  # the box lies around it
        first = stars.first_boxes[index]
        torch.testing.assert_close((first[:2] + first[2:]) / 2, mean, atol=1e-3, rtol=0)


def test_of_locations_with_the_same_box_the_better_one_is_the_origin():
    boxes = torch.tensor([[0.0, 0, 9, 9], [1.0, 1, 5, 5], [0.0, 0, 9, 9]])
    scores = torch.tensor([[0.2, 0.9, 0.6], [0.2, 0.1, 0.6]])  # of the classes detected
    assert origins(boxes[:2], scores, boxes).tolist() == [2, 1]


def test_an_unrefined_detector_has_one_box(tmp_path):
    model = detector(
        tiny_config(
            tmp_path, "MODEL.VFNET.REFINE_BOX", "False", "MODEL.VFNET.SCORE_THRESH_TEST", "0.0"
        )
    )
    stars = find_stars(model, picture(1))
    clipped = stars.first_boxes.clamp(min=0).minimum(torch.tensor([128.0, 96.0, 128.0, 96.0]))
    assert not stars.refined and torch.equal(stars.boxes, clipped)


def test_the_best_are_those_above_the_score_and_no_more_than_asked_for(vfnet):
    stars = find_stars(vfnet, picture(1))
    assert torch.equal(stars.best(3).points, stars.points[:3])
    number = int((stars.scores >= stars.scores[1]).sum())
    assert len(stars.best(100, float(stars.scores[1])).scores) == number < len(stars.scores)


def test_detectors_without_nine_points_are_refused(tmp_path):
    without = ("MODEL.VFNET.STAR_FEATURES", "False", "MODEL.VFNET.REFINE_BOX", "False")
    for cfg, message in (
        (CONFIGS["atss"](tmp_path), "VFNet or RepPoints; got ATSS"),
        (CONFIGS["libra"](tmp_path), "got GeneralizedRCNN"),
        (tiny_config(tmp_path, *without), r"STAR_FEATURES is False"),
    ):
        with pytest.raises(UserError, match=message):
            check_star_model(build_model(cfg))


def test_what_is_drawn_is_the_points_and_both_boxes(vfnet):
    stars = find_stars(vfnet, picture(1)).best(2)
    figure = draw_stars(np.zeros((96, 128, 3), np.uint8), stars, NAMES, LEVELS)
    whole, *near = figure.axes
    assert len(near) == 2
    for index, axes in enumerate(near):
        points, location = axes.lines
        np.testing.assert_array_equal(points.get_xydata(), stars.points[index].numpy())
        np.testing.assert_array_equal(location.get_xydata(), stars.locations[index, None].numpy())
        refined, first = axes.patches
        for patch, box in ((refined, stars.boxes), (first, stars.first_boxes)):
            drawn = (
                *patch.get_xy(),
                *np.add(patch.get_xy(), [patch.get_width(), patch.get_height()]),
            )
            np.testing.assert_allclose(drawn, box[index].numpy(), rtol=1e-6, atol=1e-4)
        level = LEVELS[int(stars.levels[index])].upper()
        name = NAMES[int(stars.classes[index])]
        assert (
            axes.get_title() == f"{index + 1}: {name} {float(stars.scores[index]):.2f} on {level}"
        )
        # All that was read is to be seen.
        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        x, y = stars.points[index].numpy().T
        assert left < x.min() and x.max() < right and top < y.min() and y.max() < bottom
    assert len(whole.lines) == 4 and len(whole.patches) == 4
