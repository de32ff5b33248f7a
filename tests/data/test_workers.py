"""A loader's worker that gives nothing is named after a time."""

import os
import signal
import socket
import time
from multiprocessing import resource_sharer

import pytest
import torch
from detectron2.data import DatasetCatalog
from torch import multiprocessing
from torch.utils.data import DataLoader, Dataset

from tests.engine.tiny import tiny_config
from vfnet.data import build_test_loader, build_train_loader, loader_timeout
from vfnet.data.workers import WatchedLoader
from vfnet.errors import UserError

LINUX = pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs Linux's /proc")


def stop():
    os.kill(os.getpid(), signal.SIGSTOP)


def hang():
    time.sleep(1000)


class Numbers(Dataset):
    """The numbers 0 to 3; `trouble` is called before 1, which is worker 1's."""

    def __init__(self, trouble=lambda: None):
        self.trouble = trouble

    def __len__(self):
        return 4

    def __getitem__(self, index):
        if index == 1:
            self.trouble()
        return index


def watched(dataset, timeout):
    loader = DataLoader(dataset, None, num_workers=2, timeout=timeout)
    return WatchedLoader(loader)


def test_batches_come_as_they_are():
    loader = watched(Numbers(), timeout=60)
    assert len(loader) == 4
    assert list(loader) == list(loader) == [0, 1, 2, 3]


@LINUX
@pytest.mark.parametrize("trouble, state", [(stop, "stopped by a signal"), (hang, "waiting")])
def test_the_worker_that_gives_nothing_is_named_and_ends(trouble, state):
    loader = watched(Numbers(trouble), timeout=2)
    batches = iter(loader)
    assert next(batches) == 0
    (first, second) = sorted(multiprocessing.active_children(), key=lambda child: child.pid)
    with pytest.raises(UserError) as caught:
        next(batches)
    text = str(caught.value)
    assert f"worker 1 of the loader (process {second.pid}, {state}) gave nothing for 2 sec" in text
    assert "DATALOADER.TIMEOUT" in text
    del batches, caught
    second.join(20)
    assert not first.is_alive() and not second.is_alive()


class Tensors(Numbers):
    """Numbers as tensors, which a worker hands over when it is asked."""

    def __getitem__(self, index):
        return torch.tensor([index])


@LINUX
def test_a_worker_that_was_stopped_before_it_handed_over_a_tensor_is_named():
    batches = iter(WatchedLoader(DataLoader(Tensors(), None, num_workers=1, timeout=2)))
    assert next(batches).item() == 0
    (worker,) = multiprocessing.active_children()
    time.sleep(1)  # by now the next one is announced
    os.kill(worker.pid, signal.SIGSTOP)
    with pytest.raises(UserError, match=f"process {worker.pid}, stopped by a signal"):
        next(batches)
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
    del batches
    worker.join(20)
    assert not worker.is_alive()


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="needs SIGALRM")
class Left(Numbers):
    """Whoever asks a worker for a tensor's file ends before it is there."""

    def __getitem__(self, index):
        shared = resource_sharer.DupFd(1)
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(shared._id[0])
        os.close(shared.detach())  # asks the same thread, which has done with the other one then
        return index


@LINUX
def test_a_worker_shows_no_traceback_where_nobody_is_left(capfd):
    loader = DataLoader(Left(), None, num_workers=1)
    assert list(loader) == list(range(4))
    assert "Traceback" in capfd.readouterr().err
    assert list(WatchedLoader(loader)) == list(range(4))
    assert capfd.readouterr().err == ""


def test_an_alarm_of_the_users_stays(request):
    rung = []
    signal.signal(signal.SIGALRM, lambda *_: rung.append(True))
    request.addfinalizer(lambda: signal.signal(signal.SIGALRM, signal.SIG_DFL))
    signal.setitimer(signal.ITIMER_REAL, 1000)
    request.addfinalizer(lambda: signal.setitimer(signal.ITIMER_REAL, 0))
    assert list(watched(Numbers(), timeout=60)) == [0, 1, 2, 3]
    assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 1000
    signal.raise_signal(signal.SIGALRM)
    assert rung == [True]


def test_other_errors_of_a_loader_pass():
    def broken():
        raise RuntimeError("in the worker")

    with pytest.raises(RuntimeError, match="in the worker"):
        list(watched(Numbers(broken), timeout=60))


@pytest.mark.parametrize("workers, timeout, expected", [(2, 5, 5), (2, 0, 0), (0, 5, 0)])
def test_the_time_counts_where_workers_load(tmp_path, workers, timeout, expected):
    keys = ("DATALOADER.NUM_WORKERS", str(workers), "DATALOADER.TIMEOUT", str(timeout))
    assert loader_timeout(tiny_config(tmp_path, *keys)) == expected


def test_the_key_reaches_both_loaders(tmp_path):
    cfg = tiny_config(tmp_path, "DATALOADER.NUM_WORKERS", "2", "DATALOADER.TIMEOUT", "5")
    records = DatasetCatalog.get("shapes_val")[:1]
    assert build_train_loader(cfg, records=records).loader._loader.timeout == 5
    assert build_test_loader(cfg, "shapes_val")._loader.timeout == 5


def test_a_negative_time_is_refused(tmp_path):
    with pytest.raises(UserError, match="DATALOADER.TIMEOUT .* got -1"):
        loader_timeout(tiny_config(tmp_path, "DATALOADER.TIMEOUT", "-1"))
