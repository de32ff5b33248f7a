"""A long run holds what it held at first: memory, open files and threads."""

import json
import os

import pytest

from tests.command import run_python

# What an iteration may leave: Detectron2 keeps each one's scalars, about 2.4 KiB, for its plots.
KIB_AN_ITERATION = 4
# What allocators hold back or not.
KIB_AT_ALL = 16 * 1024


@pytest.mark.soak
@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs Linux's /proc")
def test_memory_files_and_threads_stay(amount, figure, repository, tmp_path):
    iterations = amount(ci=100, soak=10_000)
    words = ("-m", "tests.engine.long_run", tmp_path, iterations)
    done = run_python(*words, cwd=repository, timeout=max(150, iterations))
    assert done.returncode == 0, done.stdout + done.stderr
    steps, found = json.loads((tmp_path / "held.json").read_text())
    # From the second look on: the first checkpoint comes later, and may raise the peak.
    (first, files, threads), *_, (last, more_files, more_threads) = found[1:]
    figure(f"iterations in one process, memory {(last - first) / 1024:+.1f} MiB", iterations, steps)
    assert more_files == files and more_threads == threads
    assert last - first < KIB_AT_ALL + KIB_AN_ITERATION * iterations
