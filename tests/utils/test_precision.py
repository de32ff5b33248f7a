import pytest

from vfnet.utils import precision
from vfnet.utils.precision import slow_precision


@pytest.mark.parametrize(
    ("name", "device", "has", "slow"),
    [
        ("bfloat16", "cpu", False, True),
        ("bfloat16", "cpu", True, False),
        ("bfloat16", "cuda", False, False),
        ("float32", "cpu", False, False),
    ],
)
def test_a_cpu_without_bfloat16_is_said_to_be_slow(monkeypatch, name, device, has, slow):
    monkeypatch.setattr(precision, "_cpu_has_bfloat16", lambda: has)
    line = slow_precision("MODEL.VFNET.PRECISION_TEST", name, device)
    assert bool(line) == slow
    if slow:
        assert line.startswith("MODEL.VFNET.PRECISION_TEST is bfloat16") and "\n" not in line
