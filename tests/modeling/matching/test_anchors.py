"""Assignment by IoU, image by image, and what padding does to it."""

from functools import partial

import torch
from detectron2.structures import Boxes, Instances

from vfnet.modeling.matching.anchors import assign_anchors, assign_boxes
from vfnet.modeling.matching.max_iou import max_iou_match

# Two levels of 2 x 2 and 1 x 1 locations, two anchors each: as large as the cell, and twice.
SIZES, STRIDES = [(2, 2), (1, 1)], [8, 16]
CENTRES = [(4.0, 4.0), (12.0, 4.0), (4.0, 12.0), (12.0, 12.0), (8.0, 8.0)]
ANCHORS = torch.tensor(
    [
        [x - s / 2, y - s / 2, x + s / 2, y + s / 2]
        for i, (x, y) in enumerate(CENTRES)
        for s in ((8, 16) if i < 4 else (16, 32))
    ]
)


def instances(boxes, classes):
    return Instances(
        (16, 16),
        gt_boxes=Boxes(torch.tensor(boxes).view(-1, 4)),
        gt_classes=torch.tensor(classes, dtype=torch.int64),
    )


def assign(gt, image_sizes):
    return assign_anchors(gt, ANCHORS, image_sizes, SIZES, STRIDES, 8, max_iou_match)


def test_positives_of_all_images_by_hand():
    gt = [
        instances([[0.0, 0, 8, 8], [0.0, 0, 16, 16]], [2, 1]),
        instances([], []),
        instances([[8.0, 8, 16, 16]], [0]),
    ]
    targets = assign(gt, [(16, 16)] * 3)
    # Image 0: the first anchor is box 0, the first one of the second level is box 1; image 2: the
    # small anchor of location 3.
    assert targets.index.tolist() == [0, 8, 2 * 10 + 6]
    assert targets.classes.tolist() == [2, 1, 0]
    assert targets.boxes.tolist() == [[0, 0, 8, 8], [0, 0, 16, 16], [8, 8, 16, 16]]
    assert targets.positives_of_images(10).tolist() == [2, 0, 1]
    assert targets.gts_without_positive == 0
    # Image 1 is background as a whole; in image 0 the large anchors of locations 0 to 3 have 12 x
    # 12 of 368 pixels in common with box 1: 0.39.
    assert targets.valid.all()


def test_anchors_between_the_thresholds_are_not_valid():
    # 12 x 12 of 368 pixels, 0.39, lie above 0.35.
    match = partial(max_iou_match, negative_below=0.35)
    gt = [instances([[0.0, 0, 16, 16]], [1])]
    targets = assign_anchors(gt, ANCHORS, [(16, 16)], SIZES, STRIDES, 8, match)
    assert targets.index.tolist() == [8]
    assert (~targets.valid).nonzero().squeeze(1).tolist() == [1, 3, 5, 7]


def test_an_anchor_in_the_padding_is_not_even_the_best_of_a_box():
    # The box fills the small anchor of location 1 but for a column.
    gt = instances([[9.0, 0, 16, 8]], [2])
    assert assign([gt], [(16, 16)]).index.tolist() == [2]
    # An image 8 wide has one column of locations on the first level; the second level has one.
    targets = assign([gt], [(16, 8)])
    assert targets.index.tolist() == [8]  # 56 of 256 pixels
    own = [0, 1, 4, 5, 8, 9]
    assert targets.valid.nonzero().squeeze(1).tolist() == own


def test_boxes_may_differ_from_image_to_image():
    gt = [instances([[0.0, 0, 10, 10]], [i]) for i in (0, 1)]
    boxes = torch.tensor([[[0.0, 0, 10, 10], [30, 30, 40, 40]], [[30, 30, 40, 40], [0, 0, 10, 10]]])
    sizes = torch.tensor([[64, 64], [64, 64]])
    targets = assign_boxes(gt, boxes, torch.ones(2, 2, dtype=torch.bool), sizes, max_iou_match)
    assert targets.index.tolist() == [0, 3]
    assert targets.classes.tolist() == [0, 1]
