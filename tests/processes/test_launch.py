"""Processes of a job: started, ended, and heard once."""

import multiprocessing
import time
from importlib import import_module
from pathlib import Path

import pytest

from tests.command import run_python
from vfnet.processes import launch


def test_running_on_the_cpu_is_said_in_one_line(gpus, capsys):
    gpus(0)
    called = []
    launch(called.append, ("here",), device="cuda")
    assert called == ["here"]
    assert capsys.readouterr().out == (
        "MODEL.DEVICE is cuda, but there is no GPU: running on the CPU\n"
    )


FAILING_MAIN = """
import sys
from detectron2.utils import comm
from vfnet.errors import UserError
from vfnet.processes import launch, report_errors

def main(failing):
    if comm.get_rank() in failing:
        raise UserError(f"expected two, got {len(failing)}")
    comm.all_gather(comm.get_rank())  # waits for the failed process

if __name__ == "__main__":
    with report_errors():
        failing = [int(rank) for rank in sys.argv[1:]]
        launch(main, (failing,), device="cpu", num_gpus=2)
"""


@pytest.fixture
def failing_main(tmp_path):
    script = tmp_path / "failing.py"
    script.write_text(FAILING_MAIN)
    return str(script)


@pytest.mark.parametrize("failing", [["0", "1"], pytest.param(["1"], marks=pytest.mark.only_soak)])
def test_an_error_of_spawned_processes_is_printed_once(failing_main, failing):
    done = run_python(failing_main, *failing)
    assert done.returncode == 1
    assert done.stderr.count(f"error: expected two, got {len(failing)}") == 1
    assert "Traceback" not in done.stderr


def test_processes_of_the_users_live_on(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("PYTHONWARNINGS", "")
    monkeypatch.setattr(import_module("vfnet.processes.launch"), "spawn", lambda *_, **__: None)
    child = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(1000,))
    child.start()
    launch(print, (), device="cpu", num_gpus=2)
    child.join(0.5)
    assert child.is_alive()
    child.kill()
    child.join()


def test_an_error_under_torchrun_is_printed_once(failing_main):
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = run_python(*torchrun, failing_main, "0", "1")
    assert done.returncode != 0
    assert done.stderr.count("error: expected two, got 2") == 1


LINGERING_MAIN = """
import atexit
import sys
from pathlib import Path

import torch
from detectron2.utils import comm
from vfnet.processes import launch
from vfnet.utils.comm import mean_over_processes

def thread_names():
    return [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]

def main(folder):
    found = Path(folder) / f"{comm.get_rank()}"
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 2))
    model.itself = model  # goes only when cycles are collected
    mean_over_processes(model(torch.ones(2)))
    comm.all_gather("something")
    if "pt_gloo_runloop" not in thread_names():
        sys.exit("no name")
    atexit.register(lambda: found.write_text("\\n".join(thread_names())))

if __name__ == "__main__":
    launch(main, (sys.argv[1],), device="cpu", num_gpus=2)
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux's /proc")
@pytest.mark.parametrize(
    "launcher",
    [(), ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")],
    ids=["spawned", "torchrun"],
)
def test_gloos_threads_end_before_python_does(launcher, tmp_path):
    script = tmp_path / "lingering.py"
    script.write_text(LINGERING_MAIN)
    done = run_python(*launcher, script, tmp_path)
    if "no name" in done.stderr:
        pytest.skip("needs a torch that names gloo's threads (2.14 does, 2.10 does not)")
    assert done.returncode == 0, done.stdout + done.stderr
    for rank in range(2):
        names = (tmp_path / str(rank)).read_text().splitlines()
        assert names and "pt_gloo_runloop" not in names
