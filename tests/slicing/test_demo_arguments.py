"""demo/demo.py --slice: values that cannot be. None of it needs SAHI."""

import pytest
from PIL import Image

from tests.slicing.demo import run_demo
from vfnet.errors import UserError


@pytest.mark.parametrize(
    "words, message",
    [
        (("--slice", "0"), "at least 32 pixels, got 0"),
        (("--slice", "-640"), "at least 32 pixels, got -640"),
        (("--slice", "640", "--overlap", "1.0"), "from 0 to below 1, such as 0.2, got 1.0"),
        (("--slice", "640", "--overlap", "-0.1"), "from 0 to below 1, such as 0.2, got -0.1"),
        (("--overlap", "0.2"), "as --slice 640"),
    ],
)
def test_a_value_that_cannot_be_is_said_before_anything_is_loaded(words, message, tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=message):
        run_demo(tmp_path / "a.png", tmp_path / "out", "--weights", "absent.pth", *words)
    assert not (tmp_path / "out").exists()
