import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.ops import box_iou

from vfnet.modeling.locations import grid_points
from vfnet.modeling.matching.atss import atss_match, atss_match_batch

STRIDES = (8, 16, 32, 64, 128)


def pyramid(height, width):
    return [(-(-height // stride), -(-width // stride)) for stride in STRIDES]


def random_boxes(count, height, width, generator):
    low = torch.rand(count, 2, generator=generator) * torch.tensor([width, height]) * 0.9
    size = torch.rand(count, 2, generator=generator).square() * torch.tensor([width, height])
    high = torch.minimum(low + size * 0.6 + 2, torch.tensor([float(width), float(height)]))
    return torch.cat((low, high), dim=1)


def dense_atss(
    gt_boxes,
    feature_sizes,
    strides,
    topk=9,
    anchor_scale=8.0,
    valid_sizes=None,
    ignored=None,
    fallback=False,
):
    """The textbook way: every location against every box."""
    points = grid_points(feature_sizes, strides, torch.device("cpu"))
    half, level, valid = [], [], []
    for i, (size, stride) in enumerate(zip(feature_sizes, strides)):
        mask = torch.zeros(size, dtype=torch.bool)
        valid_height, valid_width = valid_sizes[i] if valid_sizes else size
        mask[:valid_height, :valid_width] = True
        half.append(torch.full((mask.numel(), 1), anchor_scale * stride / 2))
        level.append(torch.full((mask.numel(),), i))
        valid.append(mask.flatten())
    half, level, valid = torch.cat(half), torch.cat(level), torch.cat(valid)
    if ignored is not None:
        valid &= ~ignored
    anchors = torch.cat((points - half, points + half), dim=1)
    iou = box_iou(anchors, gt_boxes)
    centres = (gt_boxes[:, :2] + gt_boxes[:, 2:]) / 2
    distance = (points[:, None] - centres).square().sum(-1).sqrt()
    claims, pairs = torch.full_like(iou, -1.0), []
    for gt in range(len(gt_boxes)):
        candidates = []
        for i in range(len(strides)):
            of_level = (valid & (level == i)).nonzero()[:, 0]
            order = distance[of_level, gt].argsort(stable=True)[:topk]
            candidates.append(of_level[order])
        candidates = torch.cat(candidates)
        ious = iou[candidates, gt]
        sides = torch.cat(
            (points[candidates] - gt_boxes[gt, :2], gt_boxes[gt, 2:] - points[candidates]), 1
        )
        chosen = (ious >= ious.mean() + ious.std()) & (sides.amin(1) > 0.01)
        claims[candidates[chosen], gt] = ious[chosen]
        pairs += [(gt, place) for place in candidates.tolist()]
    best, gt_index = claims.max(dim=1)
    locations = (best >= 0).nonzero()[:, 0]
    learnt = dict(zip(locations.tolist(), gt_index[locations].tolist()))
    if fallback:
        left_out = set(range(len(gt_boxes))) - set(learnt.values())
        low, high = points[:, None] - gt_boxes[:, :2], gt_boxes[:, 2:] - points[:, None]
        inside = torch.cat((low, high), dim=2).amin(dim=2) > 0.01

        def rank(pair):
            gt, place = pair
            return not inside[place, gt], -iou[place, gt], distance[place, gt], place, gt

        places = valid.nonzero()[:, 0].tolist()
        everywhere = [
            pair
            for gt in sorted(left_out)
            for pair in sorted(((gt, place) for place in places), key=rank)
        ]
        for gt, place in sorted(pairs, key=rank) + everywhere:
            if gt in left_out and place not in learnt:
                learnt[place] = gt
                left_out.remove(gt)
    return torch.tensor(sorted(learnt), dtype=torch.int64), torch.tensor(
        [learnt[place] for place in sorted(learnt)], dtype=torch.int64
    )


@pytest.mark.parity
def test_the_reference_scenes_are_matched_exactly(repository):
    scenes = torch.load(repository / "tests/reference/atss.pt", weights_only=True)["scenes"]
    assert len(scenes) == 6
    for scene in scenes:
        locations, gt_index = atss_match(scene["gt_boxes"], scene["feature_sizes"], STRIDES)
        assert torch.equal(locations, scene["positive_locations"])
        assert torch.equal(gt_index, scene["positive_gt_index"])


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("size", [(64, 96), (224, 352), (640, 448)])
def test_windows_give_what_the_dense_way_gives(seed, size):
    generator = torch.Generator().manual_seed(seed)
    boxes = random_boxes(17, *size, generator)
    feature_sizes = pyramid(size[0] + 96, size[1] + 160)
    for valid_sizes in (None, pyramid(*size)):
        actual = atss_match(boxes, feature_sizes, STRIDES, valid_sizes=valid_sizes)
        expected = dense_atss(boxes, feature_sizes, STRIDES, valid_sizes=valid_sizes)
        assert torch.equal(actual[0], expected[0])
        assert torch.equal(actual[1], expected[1])


@pytest.mark.parametrize("topk", [2, 4, 9, 15])
def test_any_topk_and_anchor_scale_match_the_dense_way(topk):
    boxes = random_boxes(12, 160, 256, torch.Generator().manual_seed(topk))
    actual = atss_match(boxes, pyramid(160, 256), STRIDES, topk, anchor_scale=4.0)
    expected = dense_atss(boxes, pyramid(160, 256), STRIDES, topk, anchor_scale=4.0)
    assert torch.equal(actual[0], expected[0])
    assert torch.equal(actual[1], expected[1])


def test_ties_go_to_the_lower_location():
    # The centre stands midway between cells in both directions: with 2 of the 4 equally near cells
    # as candidates, the lower two are taken. One level, anchors of 16 px.
    box = torch.tensor([[4.0, 4.0, 20.0, 20.0]])  # centre (12, 12), cells at 8 and 16
    locations, _ = atss_match(box, [(4, 4)], [8], topk=2, anchor_scale=2.0)
    # Both candidates overlap alike, so both reach the mean: (row 1, column 1), (row 1, column 2).
    assert locations.tolist() == [5, 6]


def test_a_location_learns_the_box_it_overlaps_most():
    # Around (64, 64) on stride 8, an anchor of 64 px: the second box is the anchor itself.
    boxes = torch.tensor([[20.0, 20, 108, 108], [32.0, 32, 96, 96], [32.0, 32, 96, 96]])
    locations, gt_index = atss_match(boxes, pyramid(128, 128), STRIDES)
    at_centre = gt_index[locations == 8 * 16 + 8]
    assert at_centre.tolist() == [1]  # of two equal boxes the lower one


def test_no_box_gives_two_empty_tensors():
    for result in atss_match(torch.zeros(0, 4), pyramid(64, 64), STRIDES):
        assert result.dtype == torch.int64
        assert result.shape == (0,)


def test_locations_ascend_and_lie_in_the_valid_part_and_inside_their_boxes():
    boxes = random_boxes(40, 300, 200, torch.Generator().manual_seed(1))
    feature_sizes, valid_sizes = pyramid(512, 512), pyramid(320, 224)
    locations, gt_index = atss_match(boxes, feature_sizes, STRIDES, valid_sizes=valid_sizes)
    assert (locations[1:] > locations[:-1]).all()
    points = grid_points(feature_sizes, STRIDES, boxes.device)[locations]
    assert (points < torch.tensor([224, 320])).all()
    assert (points > boxes[gt_index, :2]).all()
    assert (points < boxes[gt_index, 2:]).all()


def test_boxes_far_outside_the_map_do_no_harm():
    boxes = torch.tensor([[-5e3, -5e3, -4e3, -4e3], [9e5, 9e5, 1e6, 1e6], [30.0, 30, 90, 90]])
    locations, gt_index = atss_match(boxes, pyramid(128, 128), STRIDES)
    assert len(locations) > 0
    assert gt_index.unique().tolist() == [2]


def test_a_batch_in_one_go_is_its_images_one_by_one():
    generator = torch.Generator().manual_seed(5)
    sizes, counts = [(320, 480), (64, 96), (200, 320), (480, 300)], (7, 3, 0, 12)
    boxes = [random_boxes(n, *size, generator) for n, size in zip(counts, sizes)]
    feature_sizes = pyramid(480, 480)
    num_locations = sum(height * width for height, width in feature_sizes)
    expected = [
        atss_match(b, feature_sizes, STRIDES, valid_sizes=pyramid(*size))
        for b, size in zip(boxes, sizes)
    ]
    locations, gt_index = atss_match_batch(
        torch.cat(boxes),
        torch.arange(4).repeat_interleave(torch.tensor(counts)),
        torch.tensor([pyramid(*size) for size in sizes]),
        feature_sizes,
        STRIDES,
    )
    first_box = [0, 7, 10, 10]
    assert torch.equal(
        locations, torch.cat([e[0] + i * num_locations for i, e in enumerate(expected)])
    )
    assert torch.equal(gt_index, torch.cat([e[1] + first for e, first in zip(expected, first_box)]))


class CountElements(TorchDispatchMode):
    """Add up the elements of every tensor that an operation returns."""

    total = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.total += result.numel()
        return result


def test_work_grows_with_the_boxes_and_not_with_the_image():
    boxes = random_boxes(30, 300, 300, torch.Generator().manual_seed(0))
    totals = {}
    for side in (1280, 5120):
        for count in (15, 30):
            with CountElements() as counter:
                atss_match(boxes[:count], pyramid(side, side), STRIDES)
            totals[side, count] = counter.total
    assert totals[5120, 30] == pytest.approx(totals[1280, 30], rel=0.02)
    assert totals[5120, 30] < 2.2 * totals[5120, 15]


def test_points_stand_at_stride_times_index():
    points = grid_points([(2, 3), (1, 2)], [8, 16], torch.device("cpu"))
    expected = [[0, 0], [8, 0], [16, 0], [0, 8], [8, 8], [16, 8], [0, 0], [16, 0]]
    assert points.tolist() == expected
