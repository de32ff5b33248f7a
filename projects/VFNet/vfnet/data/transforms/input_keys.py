"""Checks of the INPUT keys that several augmentations share."""

from collections.abc import Sequence

from ...errors import UserError


def check_probability(key: str, value: float) -> None:
    """Check that a probability lies in [0, 1].

    Raises:
        UserError: it does not.
    """
    if not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise UserError(f"{key} has to be a probability, from 0 to 1; got {value!r}")


def check_range(key: str, value: Sequence[int], least: int = 1) -> None:
    """Check that a range is [lowest, highest], integers from `least` on.

    Raises:
        UserError: it is not.
    """
    if not are_integers(value, least) or len(value) != 2 or value[0] > value[1]:
        raise UserError(
            f"{key} has to be [lowest, highest], two integers from {least} on; got {value!r}"
        )


def are_integers(values: Sequence[int], least: int) -> bool:
    """Say whether all values are integers, none below `least`."""
    return all(isinstance(value, int) and value >= least for value in values)
