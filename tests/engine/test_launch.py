"""On which device a run lands, and how its errors come out."""

import multiprocessing
import time
from importlib import import_module
from pathlib import Path

import pytest
import torch

from vfnet.engine import choose_device, launch, report_errors
from vfnet.errors import UserError

from .command import run_python


@pytest.fixture
def gpus(monkeypatch):
    def pretend(count):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)

    return pretend


@pytest.mark.parametrize(
    "device, num_gpus, present, expected",
    [
        ("cuda", 1, 0, "cpu"),
        ("cuda", 0, 0, "cpu"),
        ("cuda", 0, 2, "cpu"),
        ("cuda", 1, 1, "cuda"),
        ("cuda", 2, 8, "cuda"),
        ("cpu", 1, 8, "cpu"),
        ("cpu", 4, 0, "cpu"),
    ],
)
def test_device(gpus, device, num_gpus, present, expected):
    gpus(present)
    assert choose_device(device, num_gpus) == expected


@pytest.mark.parametrize(
    "device, num_gpus, present, pattern",
    [
        ("cuda", 2, 0, "2 GPUs, but 0 are present; give --num-gpus 1, or MODEL.DEVICE cpu"),
        ("cuda", 8, 4, "8 GPUs, but 4 are present; give --num-gpus 4, or MODEL.DEVICE cpu"),
        ("cuda", -1, 4, "negative, got -1"),
        ("gpu", 1, 4, "'gpu'"),
    ],
)
def test_devices_that_cannot_be_had(gpus, device, num_gpus, present, pattern):
    gpus(present)
    with pytest.raises(UserError, match=pattern):
        choose_device(device, num_gpus)


@pytest.mark.parametrize("present, expected", [(0, "cpu"), (2, "cuda"), (4, "cuda")])
def test_device_under_torchrun(gpus, monkeypatch, present, expected):
    gpus(present)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "2")
    assert choose_device("cuda", num_gpus=1) == expected


def test_fewer_gpus_than_torchrun_has_processes(gpus, monkeypatch):
    gpus(1)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "2")
    with pytest.raises(UserError, match="--nproc-per-node 2 asks for 2 GPUs, but 1"):
        choose_device("cuda", num_gpus=1)


def test_running_on_the_cpu_is_said_in_one_line(gpus, capsys):
    gpus(0)
    called = []
    launch(called.append, ("here",), device="cuda")
    assert called == ["here"]
    assert capsys.readouterr().out == (
        "MODEL.DEVICE is cuda, but there is no GPU: running on the CPU\n"
    )


def test_an_error_is_one_line_and_exit_status_1(capsys):
    with pytest.raises(SystemExit) as caught, report_errors():
        raise UserError("expected this, got that")
    assert caught.value.code == 1
    assert capsys.readouterr().err == "error: expected this, got that\n"


def test_a_data_loader_workers_traceback_is_left_out(capsys):
    class Broken(torch.utils.data.Dataset):
        def __len__(self):
            return 1

        def __getitem__(self, index):
            raise UserError(f"picture {index} is broken")

    loader = torch.utils.data.DataLoader(Broken(), num_workers=1, multiprocessing_context="fork")
    with pytest.raises(SystemExit), report_errors():
        list(loader)
    assert capsys.readouterr().err == "error: picture 0 is broken\n"


FAILING_MAIN = """
import sys
from detectron2.utils import comm
from vfnet.engine import launch, report_errors
from vfnet.errors import UserError

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


@pytest.mark.parametrize("failing", [["0", "1"], ["1"]])
def test_an_error_of_spawned_processes_is_printed_once(failing_main, failing):
    done = run_python(failing_main, *failing)
    assert done.returncode == 1
    assert done.stderr.count(f"error: expected two, got {len(failing)}") == 1
    assert "Traceback" not in done.stderr


def test_processes_of_the_users_live_on(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("PYTHONWARNINGS", "")
    monkeypatch.setattr(import_module("vfnet.engine.launch"), "spawn", lambda *_, **__: None)
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
from vfnet.engine import launch
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
