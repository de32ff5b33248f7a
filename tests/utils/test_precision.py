import re
from pathlib import Path

import pytest

from tests.command import run_python
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


# Prints which instructions oneDNN uses.
CONVOLVE = """
import torch
from vfnet.utils.precision import avoid_amx
avoid_amx()
with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
    torch.conv2d(torch.ones(1, 64, 64, 64), torch.ones(64, 64, 3, 3))
"""


@pytest.mark.parametrize("own, expected", [("", ""), ("SSE41", "Intel SSE4.1")])
def test_onednn_keeps_off_amx_and_to_what_the_user_has_set(monkeypatch, own, expected):
    if not own and "amx_bf16" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("needs a processor with AMX")
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")  # set for all tests
    done = run_python("-c", CONVOLVE, variables={"ONEDNN_MAX_CPU_ISA": own} if own else None)
    assert done.returncode == 0, done.stderr
    (isa,) = re.findall(r"cpu,isa:(.*)", done.stdout)
    assert "AMX" not in isa and expected in isa
