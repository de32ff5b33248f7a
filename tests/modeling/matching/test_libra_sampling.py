"""Shares of many draws against those that follow from the rule by arithmetic."""

import pytest
import torch

from vfnet.modeling.matching.libra_sampling import sample_negatives, sample_positives

MANY, SOME = 10_000, 1_000
# A made-up image: negatives of IoU 0, below a third, and from a third to a half.
ZERO, LOW, HIGH = 400, 200, 100
IOUS = torch.cat(
    (torch.zeros(ZERO), torch.linspace(0.01, 0.33, LOW), torch.linspace(0.34, 0.49, HIGH))
)
GROUPS = torch.repeat_interleave(torch.arange(3), torch.tensor([ZERO, LOW, HIGH]))
ONE = torch.ones(())


def shares(ious, count, floor_at_zero, highest_iou=ONE, groups=GROUPS, bins=3, draws=SOME):
    """How many of each group are drawn, on average, and how often each negative."""
    generator = torch.Generator().manual_seed(0)
    times = torch.zeros(len(ious))
    for _ in range(draws):
        drawn = sample_negatives(
            ious, highest_iou, count, torch.tensor(floor_at_zero), bins, generator
        )
        assert len(drawn) == min(count, len(ious))
        times[drawn] += 1
    means = times / draws
    return torch.zeros(int(groups.max()) + 1).index_add_(0, groups, means), means


def test_before_the_switch_a_range_holds_the_ious_of_zero_too():
    found, means = shares(IOUS, 180, floor_at_zero=False, draws=MANY)
    # 60 of each range; the third, from 2/3 on, has none, so that 60 more come from what is left.
    rest = 60 / (540 + 40)
    low_range, high = 60 + 540 * rest, 60 + 40 * rest
    expected = torch.tensor([low_range * ZERO / 600, low_range * LOW / 600, high])
    torch.testing.assert_close(found, expected, rtol=0, atol=0.2)
    # Alike within a range: the share of each, within five standard deviations.
    for group, share in enumerate(expected / torch.tensor([ZERO, LOW, HIGH])):
        deviation = (share * (1 - share) / MANY).sqrt()
        assert ((means[GROUPS == group] - share).abs() < 5 * deviation).all()


def test_after_the_switch_none_of_iou_zero_is_drawn_while_there_are_others():
    found, _ = shares(IOUS, 180, floor_at_zero=True, draws=MANY)
    rest = 60 / (140 + 40)
    expected = torch.tensor([0.0, 60 + 140 * rest, 60 + 40 * rest])
    torch.testing.assert_close(found, expected, rtol=0, atol=0.2)


def test_after_the_switch_those_of_iou_zero_fill_up():
    found, means = shares(IOUS, 384, floor_at_zero=True)
    assert (means[ZERO:] == 1).all()
    torch.testing.assert_close(found[0], torch.tensor(84.0))
    assert (means[:ZERO] - 84 / ZERO).abs().max() < 5 * (0.21 * 0.79 / SOME) ** 0.5


def test_ranges_end_at_the_highest_iou_of_any_roi():
    # Without a ground truth among the RoIs all three ranges may be within a negative's IoU.
    ious = torch.tensor([0.0] * 50 + [0.2] * 30 + [0.35] * 20)
    groups = torch.repeat_interleave(torch.arange(3), torch.tensor([50, 30, 20]))
    found, _ = shares(ious, 30, False, torch.tensor(0.45), groups)
    torch.testing.assert_close(found, torch.tensor([10.0, 10.0, 10.0]))


def test_one_range_is_a_random_draw():
    found, _ = shares(IOUS, 70, floor_at_zero=False, bins=1)
    torch.testing.assert_close(found, torch.tensor([40.0, 20.0, 10.0]), rtol=0, atol=0.6)


@pytest.mark.parametrize("floor_at_zero", [False, True])
def test_an_image_without_a_box_gives_a_random_draw(floor_at_zero):
    ious = torch.zeros(100)
    drawn = sample_negatives(ious, torch.zeros(()), 30, torch.tensor(floor_at_zero))
    assert len(drawn.unique()) == 30


def test_few_negatives_are_all_taken():
    few = sample_negatives(IOUS[:5], ONE, 5, torch.tensor(False))
    assert few.tolist() == [0, 1, 2, 3, 4]
    assert sample_negatives(IOUS[:0], ONE, 5, torch.tensor(True)).tolist() == []


def instance_means(counts, count):
    """How many positives of each ground truth are drawn on average, and the most in one draw."""
    generator = torch.Generator().manual_seed(0)
    gt_index = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    total, most = torch.zeros(len(counts)), 0
    for _ in range(SOME):
        drawn = sample_positives(gt_index, count, generator)
        assert len(drawn.unique()) == len(drawn)
        total += gt_index[drawn].bincount(minlength=len(counts))
        most = max(most, len(drawn))
    return total / SOME, most


def test_too_many_positives_of_all_ground_truths_are_cut_alike():
    # round(128 / 5) + 1 = 27 of each, 135 together.
    found, most = instance_means([30, 100, 50, 400, 27], 128)
    torch.testing.assert_close(found, torch.full((5,), 128 / 5), rtol=0, atol=0.4)
    assert most == 128


def test_what_is_missing_is_drawn_from_all_positives_and_may_repeat():
    # round(128 / 4) + 1 = 33 of each that has them: 102, and 26 of all 243 again.
    counts = [100, 100, 3, 40]
    found, most = instance_means(counts, 128)
    first = torch.tensor([33.0, 33.0, 3.0, 33.0])
    expected = first + (torch.tensor(counts) - first) * 26 / 243
    torch.testing.assert_close(found, expected, rtol=0, atol=0.4)
    assert expected.sum() < 118 and most < 128


def test_few_positives_are_all_taken():
    assert sample_positives(torch.tensor([3, 0, 3]), 3).tolist() == [0, 1, 2]
    assert sample_positives(torch.tensor([], dtype=torch.int64), 128).tolist() == []


def test_the_generator_of_torch_decides():
    for sample in (
        lambda: sample_negatives(IOUS, ONE, 180, torch.tensor(False)),
        lambda: sample_positives(torch.arange(300) % 7, 128),
    ):
        torch.manual_seed(1)
        first, second = sample(), sample()
        torch.manual_seed(1)
        assert torch.equal(sample(), first)
        assert not torch.equal(second, first)
