"""vfnet.utils.pixel_limit: what cannot be a limit. What it does to pictures: tests/data/checks."""

import pytest

from vfnet.errors import UserError
from vfnet.utils.pixel_limit import limit_pixels


@pytest.mark.parametrize("limit", [0, -1, 1.5, "200"])
def test_the_limit_is_a_positive_integer(limit):
    with pytest.raises(UserError, match="INPUT.MAX_PIXELS has to be a positive integer"):
        limit_pixels(limit)
