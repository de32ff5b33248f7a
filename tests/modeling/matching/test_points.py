"""RepPoints' two assignments against loops over all locations, and their quirks by hand."""

import math

import pytest
import torch
from detectron2.structures import Boxes, Instances
from torchvision.ops import box_iou

from vfnet.modeling.locations import grid_points
from vfnet.modeling.matching.points import point_match_batch, refined_targets
from vfnet.modeling.matching.targets import Targets, assign_targets

STRIDES = (8, 16, 32, 64, 128)
PYRAMID = [(28, 40), (14, 20), (7, 10), (4, 5), (2, 3)]
OWN = [(25, 38), (13, 19), (7, 10), (4, 5), (2, 3)]  # what belongs to an image of 200 x 300
LOCATIONS = sum(h * w for h, w in PYRAMID)


def match(gt_boxes, image=None, base_scale=4.0):
    image = torch.zeros(len(gt_boxes), dtype=torch.int64) if image is None else image
    sizes = torch.tensor([OWN] * 2)
    return point_match_batch(gt_boxes, image, sizes, PYRAMID, STRIDES, base_scale)


def location_by_location(gt_boxes, base_scale=4):
    """Location -> box, box by box, each against all locations of its level."""
    points = grid_points(PYRAMID, STRIDES, torch.device("cpu")).tolist()
    found, distances = {}, {}
    for index, (x1, y1, x2, y2) in enumerate(gt_boxes.tolist()):
        width, height = x2 - x1, y2 - y1
        octave = (math.log2(width / base_scale) + math.log2(height / base_scale)) / 2
        level = min(max(int(octave), 3), 7) - 3
        first = sum(h * w for h, w in PYRAMID[:level])
        candidates = []
        for row in range(OWN[level][0]):
            for column in range(OWN[level][1]):
                location = first + row * PYRAMID[level][1] + column
                x, y = points[location]
                across, down = (x - (x1 + x2) / 2) / width, (y - (y1 + y2) / 2) / height
                candidates.append((math.hypot(across, down), location))
        distance, location = min(candidates)
        if distance < distances.get(location, math.inf):
            found[location], distances[location] = index, distance
    return found


def random_boxes(count, generator):
    low = torch.rand(count, 2, generator=generator) * torch.tensor([290.0, 190.0])
    size = 2 + torch.rand(count, 2, generator=generator).square() * 300
    return torch.cat((low, torch.minimum(low + size, torch.tensor([300.0, 200.0]))), dim=1)


def test_each_box_is_learnt_where_the_loops_say():
    generator = torch.Generator().manual_seed(0)
    contested = 0
    for count in (1, 5, 60):
        gt_boxes = random_boxes(count, generator)
        locations, gt_index = match(gt_boxes)
        assert dict(zip(locations.tolist(), gt_index.tolist())) == location_by_location(gt_boxes)
        contested += count - len(locations)
    assert contested > 0


@pytest.mark.parametrize(
    "side, level", [(4.0, 0), (63.0, 0), (64.0, 1), (127.0, 1), (128.0, 2), (1e4, 4)]
)
def test_the_level_is_that_of_the_boxs_octave_rounded_down(side, level):
    """Of 4 x 2^4 = 64 pixels on, P4 learns it; below P3 and above P7 there is nothing."""
    locations, _ = match(torch.tensor([[0.0, 0.0, side, side]]))
    ends = torch.tensor([h * w for h, w in PYRAMID]).cumsum(0)
    assert torch.searchsorted(ends, locations, right=True).tolist() == [level]


def test_of_two_locations_alike_the_lower_learns_it():
    locations, _ = match(torch.tensor([[2.0, 2.0, 6.0, 6.0]]))  # the middle of 0 and 8 either way
    assert locations.tolist() == [0]


def test_a_location_that_several_boxes_claim_goes_to_the_nearest_in_the_boxs_own_measure():
    near, far = [80.0, 80.0, 82.0, 82.0], [70.0, 70.0, 94.0, 94.0]
    # 1 of 2 pixels away is farther than 2 of 24.
    locations, gt_index = match(torch.tensor([near, far]))
    assert (locations.tolist(), gt_index.tolist()) == ([10 * 40 + 10], [1])
    _, gt_index = match(torch.tensor([far, far]))
    assert gt_index.tolist() == [0]


def test_a_box_beyond_its_image_is_learnt_at_its_last_location():
    locations, _ = match(torch.tensor([[296.0, 196.0, 320.0, 220.0]]))  # its centre is 308, 208
    assert locations.tolist() == [24 * 40 + 37]


def test_images_have_their_own_locations_and_boxes():
    box = torch.tensor([[40.0, 40.0, 60.0, 60.0]])
    alone, _ = match(box)
    locations, gt_index = match(box.repeat(2, 1), image=torch.tensor([1, 0]))
    assert locations.tolist() == [alone.item(), alone.item() + LOCATIONS]
    assert gt_index.tolist() == [1, 0]


def test_without_boxes_nothing_is_positive():
    locations, gt_index = match(torch.zeros(0, 4))
    assert locations.shape == gt_index.shape == (0,)


def instances(boxes, classes=None):
    boxes = torch.tensor(boxes).view(-1, 4)
    classes = torch.arange(len(boxes)) if classes is None else torch.tensor(classes)
    return Instances((64, 64), gt_boxes=Boxes(boxes), gt_classes=classes)


def initial_targets(gt_instances, valid):
    none = torch.zeros(0, dtype=torch.int64)
    sizes = torch.full((len(gt_instances), 2), 64)
    return Targets(none, none, torch.zeros(0, 4), valid, torch.tensor(0), sizes)


def refine(boxes, gt_instances, valid=None):
    valid = torch.ones(boxes.shape[:2], dtype=torch.bool).flatten() if valid is None else valid
    return refined_targets(initial_targets(gt_instances, valid), boxes, gt_instances)


def test_boxes_are_refined_by_thresholds_of_their_iou():
    """IoU 1, then 0.6, then 0.45, which is neither, then 0.3."""
    gt = instances([[0.0, 0.0, 10.0, 10.0]], classes=[3])
    boxes = torch.tensor([[[0.0, 0.0, 10.0, y] for y in (10.0, 6.0, 4.5, 3.0)]])
    targets = refine(boxes, [gt])
    assert targets.index.tolist() == [0, 1]
    assert targets.classes.tolist() == [3, 3]
    assert torch.equal(targets.boxes, gt.gt_boxes.tensor.repeat(2, 1))
    assert targets.valid.tolist() == [True, True, False, True]
    assert targets.gts_without_positive == 0


def test_padding_takes_no_part():
    """The location that fits best lies in the padding: the next one learns the box."""
    boxes = torch.tensor([[[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 2.0]]])
    targets = refine(boxes, [instances([[0.0, 0.0, 10.0, 10.0]])], torch.tensor([False, True]))
    assert targets.index.tolist() == [1]
    assert targets.valid.tolist() == [False, True]


def test_a_box_that_meets_nothing_takes_all_that_meet_nothing_of_it():
    """Quirk of parity: its best IoU is 0, which every location has that misses it."""
    boxes = torch.tensor([[[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 5.0, 5.0]]])
    targets = refine(boxes, [instances([[0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 60.0, 60.0]])])
    assert targets.classes.tolist() == [1, 1]
    assert targets.gts_without_positive == 1  # the first box lost its locations to the last


def test_images_are_refined_apart_and_one_without_boxes_is_background():
    generator = torch.Generator().manual_seed(1)
    boxes = torch.stack([random_boxes(50, generator) for _ in range(3)])
    gts = [
        Instances((200, 300), gt_boxes=Boxes(b), gt_classes=torch.arange(len(b)))
        for b in (random_boxes(4, generator), torch.zeros(0, 4), random_boxes(2, generator))
    ]
    targets = refine(boxes, gts)
    image = targets.index // 50
    assert set(image.tolist()) == {0, 2}
    assert targets.valid.view(3, 50)[1].all()
    # Every positive overlaps its box as much as any location does, or by a half.
    for at, wanted in zip(targets.index.tolist(), targets.boxes):
        ious = box_iou(boxes[at // 50], wanted[None])[:, 0]
        assert ious[at % 50] >= min(0.5, ious.max())


def test_the_first_stage_stays_with_the_second_on_every_device():
    gt = [instances([[8.0, 8.0, 40.0, 40.0]])]
    sizes = [(8, 8), (4, 4), (2, 2), (1, 1), (1, 1)]
    initial = assign_targets(gt, [(64, 64)], sizes, STRIDES, 32, point_match_batch)
    assert initial.index.tolist() == [3 * 8 + 3]
    targets = refined_targets(initial, torch.zeros(1, len(initial.valid), 4), gt)
    moved = targets.to(torch.device("meta"))
    assert {moved.boxes.device.type, moved.initial.boxes.device.type} == {"meta"}
    assert targets.initial is initial and initial.initial is None
