"""Measuring memory: of tensors, of a process and of its restart."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lib import memory
from lib.memory import PeakWatch, allocated_peak, resident_peak, restart_resident_peak

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
needs_linux = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc"
)


def test_tensors_that_are_freed_in_between_do_not_add_up():
    megabyte = torch.zeros(2**18)

    def two_after_another():
        for _ in range(2):
            megabyte.neg()

    def two_at_once():
        return megabyte.neg(), megabyte.abs()

    assert allocated_peak(two_after_another, "cpu") == 2**20
    assert allocated_peak(two_at_once, "cpu") == 2 * 2**20


@needs_linux
def test_resident_peak_counts_from_its_restart():
    restart_resident_peak()
    before = resident_peak()
    torch.ones(2**26)  # 256 MiB, freed at once
    assert resident_peak() - before == pytest.approx(2**28, rel=0.1)
    restart_resident_peak()
    assert resident_peak() - before < 2**26


@needs_linux
def test_resident_peak_of_a_process_is_not_that_of_its_parent():
    torch.ones(2**28)  # this process has held 1 GiB
    code = (
        "import importlib.util, sys;"
        "spec = importlib.util.spec_from_file_location('memory', sys.argv[1]);"
        "memory = importlib.util.module_from_spec(spec);"
        "spec.loader.exec_module(memory); print(memory.resident_peak())"
    )
    command = [sys.executable, "-c", code, memory.__file__]
    child = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert child < 2**30 < resident_peak()


@needs_cuda
def test_peaks_on_cuda_belong_to_their_parts():
    watch = PeakWatch("cuda")
    base = torch.cuda.memory_allocated()
    torch.zeros(2**20, device="cuda")  # 4 MiB, freed at once
    watch.mark("large")
    kept = torch.zeros(2**18, device="cuda")
    watch.mark("small")
    watch.total("both")
    assert {part: peak - base for part, peak in watch.peaks.items()} == {
        "large": 2**22,
        "small": 2**20,
        "both": 2**22,
    }
    assert allocated_peak(lambda: kept.neg(), "cuda") == 2**20
