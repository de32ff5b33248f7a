"""A long run holds what it held at first: memory, open files and threads."""

import os
from pathlib import Path

import pytest
from detectron2.engine import HookBase

from vfnet.engine import Trainer

from .tiny import picture, tiny_config

# What an iteration may leave: Detectron2 keeps each one's scalars, about 2.4 KiB, for its plots.
KIB_AN_ITERATION = 4
# What allocators hold back or not.
KIB_AT_ALL = 16 * 1024


class Meter(HookBase):
    """Notes what this process holds, a number of times while it trains."""

    def __init__(self, times):
        self.times = times
        self.found = []

    def after_step(self):
        """Note it in even distances."""
        if (self.trainer.iter + 1) % (self.trainer.max_iter // self.times) == 0:
            status = Path("/proc/self/status").read_text()
            kib = int(status.split("VmRSS:")[1].split()[0])
            entries = [len(os.listdir(f"/proc/self/{what}")) for what in ("fd", "task")]
            self.found.append((kib, *entries))


class Small(Trainer):
    """The real trainer with its hooks and writers, on two small pictures."""

    @classmethod
    def build_train_loader(cls, cfg, *, seed=0, start_iter=0):
        """Yield them for ever."""
        batches = [picture(i, num_boxes=boxes, size=(32, 32)) for i, boxes in enumerate((0, 6))]
        while True:
            yield batches


@pytest.mark.soak
@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs Linux's /proc")
def test_memory_files_and_threads_stay(amount, figure, tmp_path):
    iterations = amount(ci=100, soak=10_000)
    cfg = tiny_config(tmp_path)
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.CHECKPOINT_PERIOD = iterations, iterations // 2
    trainer = Small(cfg)
    meter = Meter(times=5)
    trainer.register_hooks([meter])
    trainer.resume_or_load(resume=False)
    trainer.train()
    # From the second look on: the first checkpoint comes later, and may raise the peak.
    (first, files, threads), *_, (last, more_files, more_threads) = meter.found[1:]
    figure(
        f"iterations in one process, memory {(last - first) / 1024:+.1f} MiB",
        iterations,
        trainer.iter,
    )
    assert (more_files, more_threads) == (files, threads)
    assert last - first < KIB_AT_ALL + KIB_AN_ITERATION * iterations
