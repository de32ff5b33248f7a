"""Measuring memory: of a device, of what tensors take on the CPU, and of a whole process."""

import ctypes
import resource
import sys
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")


class PeakWatch:
    """A `Watch` that takes, in place of time, the CUDA memory that tensors held at most.

    What is held all the time, weights and optimizer, is part of every number. `peaks` is in bytes.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.peaks: dict[str, int] = {}
        self.skip()

    def mark(self, part: str) -> None:
        torch.cuda.synchronize(self.device)
        self.peaks[part] = torch.cuda.max_memory_allocated(self.device)
        self.skip()

    def skip(self) -> None:
        torch.cuda.reset_peak_memory_stats(self.device)

    def total(self, name: str, parts: Sequence[str] | None = None) -> None:
        self.peaks[name] = max(self.peaks[part] for part in parts or list(self.peaks))


def allocated_peak(function: Callable[[], object], device: str) -> int:
    """Bytes of tensors that `function` held at most beyond those that were there before.

    On the CPU every allocation and release of PyTorch's allocator is counted, those inside an
    operator included; on CUDA its own statistics tell.
    """
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        function()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        function()
    events = profiler.profiler.kineto_results.events()
    changes = [(e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"]
    changes.sort(key=lambda change: change[0])
    return max(accumulate((size for _, size in changes), initial=0))


def restart_resident_peak() -> None:
    """Let `resident_peak` count from now on, where the system can do that (Linux).

    Memory that was freed and kept for later is given back first, or the peak would hide in it.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
        _CLEAR_REFS.write_text("5")
    except (AttributeError, OSError, TypeError):
        return


def resident_peak() -> int:
    """Bytes of memory that this process held at most.

    On Linux its own high-water mark: `ru_maxrss` of a process starts at that of its parent, and the
    process that measures others is the larger one.
    """
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
