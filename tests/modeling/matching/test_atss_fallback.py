"""ATSS_FALLBACK: no box is left out, and the others keep what they have."""

import pytest
import torch

from vfnet.modeling.locations import grid_points
from vfnet.modeling.matching.atss import atss_match, atss_match_batch

from .test_atss import STRIDES, dense_atss, pyramid, random_boxes


def small_boxes(count, seed, height=96, width=128):
    """Boxes of 1 to 20 pixels, of any shape, many of them in a place."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([width - 20, height - 20])
    corner[::3] = corner[:1] + corner[::3] / 50
    return torch.cat((corner, corner + 1 + 19 * torch.rand(count, 2, generator=generator)), dim=1)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("ignoring", [False, True])
def test_it_is_what_the_best_pairs_first_give(seed, ignoring):
    """A brute force over sorted pairs, with and without locations that take no part."""
    boxes = torch.cat((small_boxes(25, seed), random_boxes(6, 96, 128, torch.manual_seed(seed))))
    feature_sizes, valid_sizes = pyramid(128, 160), pyramid(96, 128)
    ignored = None
    if ignoring:
        locations = sum(height * width for height, width in feature_sizes)
        ignored = torch.rand(locations, generator=torch.manual_seed(seed)) < 0.4
    where = {"valid_sizes": valid_sizes, "ignored": ignored, "fallback": True}
    actual = atss_match(boxes, feature_sizes, STRIDES, **where)
    expected = dense_atss(boxes, feature_sizes, STRIDES, **where)
    assert torch.equal(actual[0], expected[0])
    assert torch.equal(actual[1], expected[1])


@pytest.mark.parametrize("seed", range(4))
def test_every_box_has_a_location_and_none_loses_one(seed):
    boxes, sizes = small_boxes(60, seed), pyramid(96, 128)
    before = dict(zip(*(x.tolist() for x in atss_match(boxes, sizes, STRIDES))))
    locations, gt_index = atss_match(boxes, sizes, STRIDES, fallback=True)
    after = dict(zip(locations.tolist(), gt_index.tolist()))
    assert before.items() <= after.items()
    assert len(set(before.values())) < 30 and set(after.values()) == set(range(60))
    assert len(after) - len(before) == 60 - len(set(before.values()))


def test_a_box_between_locations_has_the_nearest_one():
    # Locations stand at multiples of 8: this box lies around (13, 11), nearest to (16, 8).
    locations, gt_index = atss_match(
        torch.tensor([[12.0, 10.0, 14.0, 12.0]]), pyramid(64, 64), STRIDES, fallback=True
    )
    assert locations.tolist() == [1 * 8 + 2] and gt_index.tolist() == [0]


def test_of_equal_boxes_each_has_a_location_of_its_own_while_there_are_any():
    """10 locations: 12 boxes on one another leave the last 2 out, whose candidates are fewer."""
    sizes, box = [(2, 4), (1, 2)], [9.0, 9.0, 12.0, 12.0]
    locations, gt_index = atss_match(
        torch.tensor([box] * 12), sizes, [8, 16], topk=2, fallback=True
    )
    assert locations.tolist() == list(range(10))
    assert sorted(gt_index.tolist()) == list(range(10))


def test_a_location_inside_the_box_comes_before_a_higher_iou_outside():
    """Only inside it can every detector predict the box: distances to its sides are positive."""
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(80, 2, generator=generator) * 100
    sides = torch.tensor([3.0, 45.0]) + torch.rand(80, 2, generator=generator)
    boxes, sizes = torch.cat((low, low + sides), dim=1), pyramid(192, 128)
    points = grid_points(sizes, STRIDES, boxes.device)
    for box in boxes:
        locations, _ = atss_match(box[None], sizes, STRIDES, fallback=True)
        if len(atss_match(box[None], sizes, STRIDES)[0]):
            continue
        (place,) = points[locations]
        is_inside = (place > box[:2]).all() and (place < box[2:]).all()
        near = (points[: 24 * 16] - (box[:2] + box[2:]) / 2).norm(dim=1).argsort(stable=True)[:9]
        inside = ((points[near] > box[:2] + 0.01) & (points[near] < box[2:] - 0.01)).all(dim=1)
        assert is_inside == inside.any()


def test_a_batch_is_its_images_one_by_one():
    counts, sizes = (30, 0, 40), [(96, 128), (64, 64), (80, 96)]
    boxes = [small_boxes(n, n, *size) for n, size in zip(counts, sizes)]
    feature_sizes = pyramid(96, 128)
    of_image = sum(height * width for height, width in feature_sizes)
    one_by_one = [
        atss_match(b, feature_sizes, STRIDES, valid_sizes=pyramid(*size), fallback=True)
        for b, size in zip(boxes, sizes)
    ]
    locations, gt_index = atss_match_batch(
        torch.cat(boxes),
        torch.arange(3).repeat_interleave(torch.tensor(counts)),
        torch.tensor([pyramid(*size) for size in sizes]),
        feature_sizes,
        STRIDES,
        fallback=True,
    )
    assert torch.equal(
        locations, torch.cat([own[0] + i * of_image for i, own in enumerate(one_by_one)])
    )
    first = (0, 30, 30)
    assert torch.equal(gt_index, torch.cat([own[1] + n for n, own in zip(first, one_by_one)]))


def test_no_box_gives_nothing():
    locations, gt_index = atss_match(torch.zeros(0, 4), pyramid(64, 64), STRIDES, fallback=True)
    assert locations.shape == gt_index.shape == (0,)
    assert locations.dtype == gt_index.dtype == torch.int64


@pytest.mark.parametrize("side", [2, 4, 6, 8, 12])
def test_the_share_of_small_squares_without_a_location(side):
    """Centres anywhere: 94 % at 2 px, 75 % at 4 px, 44 % at 6 px; none with the fallback.

    A square holds a point of stride 8, 0.01 px from its sides, with the odds (side - 0.02)^2 / 64.
    """
    expected = 1 - min((side - 0.02) / 8, 1) ** 2
    generator = torch.Generator().manual_seed(side)
    centres = 100 + 64 * torch.rand(4000, 2, generator=generator)
    boxes = torch.cat((centres - side / 2, centres + side / 2), dim=1)
    sizes = pyramid(256, 256)
    # One image each: the boxes do not get into each other's way.
    alone = (boxes, torch.arange(4000), torch.tensor([sizes]).expand(4000, -1, -1), sizes, STRIDES)
    _, gt_index = atss_match_batch(*alone)
    assert 1 - len(gt_index.unique()) / 4000 == pytest.approx(expected, abs=0.02)
    _, gt_index = atss_match_batch(*alone, fallback=True)
    assert len(gt_index.unique()) == 4000
