"""Whether draws are distributed as expected: within four standard deviations."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence


def assert_distributed(draws: Sequence[Hashable], expected: Mapping[Hashable, float]) -> None:
    """Chi-square test of draws against the probability of each value."""
    assert abs(sum(expected.values()) - 1) < 1e-9
    counts = Counter(draws)
    assert set(counts) <= set(expected), f"unexpected: {set(counts) - set(expected)}"
    statistic = sum(
        (counts[value] - len(draws) * p) ** 2 / (len(draws) * p) for value, p in expected.items()
    )
    freedom = len(expected) - 1
    assert statistic < freedom + 4 * (2 * freedom) ** 0.5, f"{statistic}: {counts}"


def assert_uniform(draws: Sequence[Hashable], values: Sequence[Hashable]) -> None:
    """Chi-square test of draws against the same probability of all values."""
    assert_distributed(draws, {value: 1 / len(values) for value in values})


def assert_share(draws: Sequence[bool], probability: float) -> None:
    """Test how many of the draws are true."""
    deviation = (len(draws) * probability * (1 - probability)) ** 0.5
    assert abs(sum(draws) - len(draws) * probability) <= 4 * deviation, f"{sum(draws)} are true"
