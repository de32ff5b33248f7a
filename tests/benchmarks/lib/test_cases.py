"""Cases become rows, and sizes are read."""

import pytest
import torch

from lib.cases import map_size, run_cases, size, timed
from vfnet.errors import UserError


def test_cases_become_rows_of_part_and_memory():
    runs = {"one": timed(lambda: torch.zeros(2**18)), "two": timed(lambda: torch.zeros(2**19))}
    results, samples = run_cases({"small": runs}, repeats=2, warm_up=0, device="cpu")
    assert list(results["two"]) == ["small, time", "small, peak memory"]
    assert [results[name]["small, peak memory"] for name in runs] == [2**20, 2**21]
    assert len(samples["one"]["small, time"]) == 2


@pytest.mark.parametrize("text", ["800", "800x", "0x5", "axb", "1x2x3"])
def test_a_size_is_two_positive_numbers(text):
    assert size("800x1333") == (800, 1333)
    with pytest.raises(UserError, match=f"got '{text}'"):
        size(text)


@pytest.mark.parametrize("text", ["256x100", "0x5x6", "axbxc"])
def test_a_map_is_three_positive_numbers(text):
    assert map_size("256x100x136") == (256, 100, 136)
    with pytest.raises(UserError, match=f"expected a map as CxHxW.* got '{text}'"):
        map_size(text)
