"""benchmarks/export.py: all forms of a detector, timed and compared."""

from pathlib import Path

import pytest

from tests.extras import needs
from vfnet.errors import UserError

pytestmark = needs("export")

from benchmarks import export  # noqa: E402

TINY = str(Path(__file__).parents[1] / "engine" / "tiny.yaml")


def test_median_and_95th_percentile_of_given_samples():
    samples = {
        "eager": {"time": [2.0, 1.0, 3.0]},
        "file": {"time": [0.5] * 10 + [1.5]},
    }
    assert export.table(samples).splitlines()[2:] == [
        "| eager | 2.000 s | 2.900 s | 1.00 |",
        "| file | 0.500 s | 1.000 s | 0.25 |",
    ]


def test_the_script_prints_a_row_for_each_form(capsys):
    words = ["--config-file", TINY, "--image-size", "64x96", "--candidates", "40"]
    keys = ["MODEL.VFNET.IN_FEATURES", "['p4', 'p6']", "MODEL.VFNET.CLASS_NAMES", "['a', 'b', 'c']"]
    export.main([*words, "--repeats", "1", "--warm-up", "0", "--opts", *keys])
    printed = capsys.readouterr().out
    for name in ("torch, eager", "ONNX Runtime", "OpenVINO", "OpenVINO, int8"):
        assert f"| {name} |" in printed
    lines = [line for line in printed.splitlines() if " detections for " in line]
    assert len(lines) == 3
    for line in lines[:2]:
        found, expected = line.split(": ")[1].split(" detections for ")
        expected, again = expected.split(" of these")[0].split(", ")
        assert found == expected == again and int(found) > 2


def test_another_device_is_refused():
    with pytest.raises(UserError, match="run on the CPU here, got --device cuda"):
        export.main(["--config-file", TINY, "--device", "cuda"])
