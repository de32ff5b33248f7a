"""Processes with uneven numbers of boxes take the same steps, and none waits for ever."""

import pytest
import torch

from tests.command import run_python


@pytest.mark.only_soak
def test_processes_with_uneven_boxes_stay_together(figure, repository, tmp_path):
    processes, iterations = 4, 500
    words = ("-m", "tests.engine.uneven_boxes", tmp_path, processes, iterations)
    done = run_python(*words, cwd=repository, timeout=max(150, 6 * iterations))
    assert done.returncode == 0, done.stdout + done.stderr
    losses = torch.load(tmp_path / "losses.pth")
    figure(f"iterations of {processes} processes, uneven boxes", iterations, len(losses))
    assert len(losses) == iterations and losses.isfinite().all()
    first, *others = (torch.load(tmp_path / f"weights{rank}.pth") for rank in range(processes))
    for other in others:
        assert all(torch.equal(first[name], other[name]) for name in first)
