"""FoveaBox's rule against loops over all cells, and each of its parts by hand."""

import math

import pytest
import torch

from vfnet.modeling.matching.fovea import fovea_match_batch

STRIDES = (8, 16, 32, 64, 128)
RANGES = ((1, 64), (32, 128), (64, 256), (128, 512), (256, 2048))
PYRAMID = [(25, 38), (13, 19), (7, 10), (4, 5), (2, 3)]  # of 200 x 300 pixels
LOCATIONS = sum(h * w for h, w in PYRAMID)


def match(gt_boxes, image=None, feature_sizes=PYRAMID, ranges=RANGES, sigma=0.4):
    image = torch.zeros(len(gt_boxes), dtype=torch.int64) if image is None else image
    sizes = torch.tensor([feature_sizes])
    return fovea_match_batch(gt_boxes, image, sizes, feature_sizes, STRIDES, ranges, sigma)


def cell_by_cell(gt_boxes, sigma=0.4):
    """Location -> box: every cell of every level against every box, the greatest box first."""
    found, first = {}, 0
    boxes = gt_boxes.double().tolist()

    def size(box):
        return math.sqrt((box[2] - box[0]) * (box[3] - box[1]))

    order = sorted(range(len(boxes)), key=lambda i: -size(boxes[i]))  # stable
    for (height, width), stride, (lowest, highest) in zip(PYRAMID, STRIDES, RANGES):
        for i in order:
            x1, y1, x2, y2 = boxes[i]
            if not lowest <= size(boxes[i]) <= highest:
                continue
            for row in range(height):
                for column in range(width):
                    x, y = (column + 0.5) * stride, (row + 0.5) * stride
                    inside_x = abs(x - (x1 + x2) / 2) <= sigma * (x2 - x1) / 2
                    inside_y = abs(y - (y1 + y2) / 2) <= sigma * (y2 - y1) / 2
                    if inside_x and inside_y:
                        found[first + row * width + column] = i
        first += height * width
    return found


def test_every_cell_learns_what_the_loops_say():
    generator = torch.Generator().manual_seed(0)
    num_positive = 0
    for count in (1, 3, 20, 40):
        low = torch.rand(count, 2, generator=generator) * torch.tensor([270.0, 180.0])
        size = 4 + torch.rand(count, 2, generator=generator).square() * 200
        high = torch.minimum(low + size, torch.tensor([300.0, 200.0]))
        gt_boxes = torch.cat((low, high), dim=1)
        locations, gt_index = match(gt_boxes)
        assert dict(zip(locations.tolist(), gt_index.tolist())) == cell_by_cell(gt_boxes)
        assert (locations.diff() > 0).all()
        num_positive += len(locations)
    assert num_positive > 100


def test_the_middle_is_sigma_of_the_box():
    """Of 40..104, 0.4 are 25.6 pixels, 59.2..84.8: on P3 the centres 60, 68, 76 and 84."""
    locations, _ = match(torch.tensor([[40.0, 40.0, 104.0, 104.0]]), ranges=RANGES[:1])
    cells = (7, 8, 9, 10)
    assert locations.tolist() == [row * 38 + column for row in cells for column in cells]


@pytest.mark.parametrize("side, levels", [(64.0, {0, 1, 2}), (65.0, {1, 2}), (31.0, {0})])
def test_a_level_learns_sizes_up_to_both_ends_of_its_range(side, levels):
    locations, _ = match(torch.tensor([[50.0, 50.0, 50.0 + side, 50.0 + side]]), sigma=1.0)
    ends = torch.tensor([h * w for h, w in PYRAMID]).cumsum(0)
    assert set(torch.searchsorted(ends, locations, right=True).tolist()) == levels


def test_the_smallest_box_wins_and_of_equal_ones_the_last():
    large, small = [40.0, 40.0, 104.0, 104.0], [56.0, 56.0, 88.0, 88.0]
    for boxes, smallest in (([large, small], 1), ([small, large], 0), ([small, small], 1)):
        locations, gt_index = match(torch.tensor(boxes), ranges=RANGES[:1])
        assert len(locations) == 16 if large in boxes else 4
        # The small box's middle is 65.6..78.4, with the centres 68 and 76.
        won = {row * 38 + column for row in (8, 9) for column in (8, 9)}
        assert {
            at for at, box in zip(locations.tolist(), gt_index.tolist()) if box == smallest
        } == won


def test_a_middle_between_two_centres_has_no_cell():
    locations, _ = match(torch.tensor([[70.0, 70.0, 74.0, 74.0]]))  # 71.2..72.8, beside 68 and 76
    assert len(locations) == 0


def test_images_have_their_own_locations_and_boxes():
    boxes = torch.tensor([[40.0, 40.0, 104.0, 104.0]]).repeat(2, 1)
    alone, _ = match(boxes[:1])
    locations, gt_index = match(boxes, image=torch.tensor([1, 0]))
    assert locations.tolist() == [*alone.tolist(), *(alone + LOCATIONS).tolist()]
    assert gt_index.tolist() == [1] * len(alone) + [0] * len(alone)


def test_without_boxes_nothing_is_positive():
    locations, gt_index = match(torch.zeros(0, 4))
    assert locations.shape == gt_index.shape == (0,)
    assert locations.dtype == gt_index.dtype == torch.int64
