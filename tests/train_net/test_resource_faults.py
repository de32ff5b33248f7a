"""What the system does to a run ends it in one line on all its processes, and soon."""

import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from .faults import TORCHRUN, Run

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux's /proc")


def kill_parent(run):
    os.kill(run.process.pid, signal.SIGKILL)


def kill_trainer(run):
    os.kill(run.trainers()[-1], signal.SIGKILL)


def kill_loader(run):
    os.kill(run.loaders()[-1], signal.SIGKILL)


def stop_loader(run):
    os.kill(run.loaders()[-1], signal.SIGSTOP)


def stop_trainer(run):
    os.kill(run.trainers()[-1], signal.SIGSTOP)


def terminate(run):
    os.kill(run.process.pid, signal.SIGTERM)


def interrupt(run):
    os.killpg(run.process.pid, signal.SIGINT)


ONE, TWO = {}, {"processes": 2}
BY_TORCHRUN = {"launcher": TORCHRUN}
NOHUP = {"no_interrupt": True}
# A worker of several processes takes a while to begin: it imports everything.
SOON = ("DATALOADER.TIMEOUT", "60", "DISTRIBUTED.TIMEOUT", "90")
# What happens, to which run, its exit status, and what it says; None: nobody is left to say it.
FAULTS = [
    (kill_parent, {**TWO, **NOHUP}, -9, "the process that started this one has gone"),
    (kill_trainer, TWO, 1, "process 1 of this machine was ended by SIGKILL"),
    (kill_loader, ONE, 1, "a loader's worker (process "),
    (stop_loader, ONE, 1, "stopped by a signal) gave nothing for 60 seconds"),
    (interrupt, ONE, 130, "stopped by SIGINT (Ctrl-C)"),
    (terminate, ONE, 143, "stopped by SIGTERM"),
    (kill_trainer, BY_TORCHRUN, 1, ""),
    (kill_parent, {**BY_TORCHRUN, **NOHUP}, -9, "the process that started this one has gone"),
    (kill_loader, TWO, 1, "a loader's worker (process "),
    (stop_loader, TWO, 1, "stopped by a signal) gave nothing for 60 seconds"),
    (stop_trainer, TWO, 1, "as long as DISTRIBUTED.TIMEOUT allows"),
    (interrupt, TWO, 130, "stopped by SIGINT (Ctrl-C)"),
    (terminate, TWO, 143, "stopped by SIGTERM"),
    (kill_loader, BY_TORCHRUN, 1, "a loader's worker (process "),
    (stop_loader, BY_TORCHRUN, 1, "stopped by a signal) gave nothing for 60 seconds"),
    (kill_parent, TWO, -9, None),
    (kill_parent, ONE, -9, None),
    (kill_loader, {**TWO, **NOHUP}, 1, "a loader's worker (process "),
    (terminate, {**ONE, **NOHUP}, 143, "stopped by SIGTERM"),
    (kill_trainer, {**TWO, **NOHUP}, 1, "process 1 of this machine was ended by SIGKILL"),
]


def what_is_wrong(run, fault, expected_status, said):
    """Let it happen; return what is not as it should be, "" for nothing."""
    try:
        run.wait_for_file("model_0000002.pth")
    except AssertionError as error:
        return str(error)
    fault(run)
    status, left = run.end(seconds=200)
    text = run.written()
    errors = [line for line in run.err.read_text().splitlines() if line.startswith("error: ")]
    by_torchrun = "torch.distributed.run" in str(run.process.args)
    tracebacks = 0 if by_torchrun else text.count("Traceback")  # torchrun shows its own
    wrong = [f"processes left: {left}"] if left else []
    if status != expected_status:
        wrong.append(f"status {status}")
    if tracebacks:
        wrong.append(f"{tracebacks} tracebacks")
    if said is not None and not any(said in line for line in errors):
        wrong.append(f"errors: {errors}")
    if status > 0 and len(errors) != 1:
        wrong.append(f"{len(errors)} errors")
    return "; ".join(wrong)


@pytest.mark.only_soak
def test_every_fault_ends_the_run_in_one_line(figure, tmp_path):
    wrong = Counter()
    for number, (fault, options, status, said) in enumerate(FAULTS):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        with Run(folder, *SOON, **options) as run:
            if found := what_is_wrong(run, fault, status, said):
                wrong[f"{number} {fault.__name__} {options}: {found}"] += 1
    figure("resource faults", len(FAULTS), len(FAULTS) - len(wrong), len(wrong))
    assert not wrong
