"""What is told of a failure that no line of code is to blame for."""

import errno
import logging
import os
import re
import signal

import pytest
import torch
from detectron2.engine import HookBase
from detectron2.utils.logger import setup_logger
from torch import distributed

from tests.engine.tiny import tiny_config
from vfnet.data import register_coco_format
from vfnet.engine import Trainer
from vfnet.errors import UserError
from vfnet.processes import report_errors
from vfnet.processes.explanations import LostProcessError, ended_by, explanation

GLOO = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:553] "


@pytest.mark.parametrize(
    "error, said",
    [
        (
            RuntimeError("DataLoader worker (pid 71) is killed by signal: Killed. "),
            r"worker \(process 71\) was ended by SIGKILL, .*memory.*NUM_WORKERS.*--resume",
        ),
        (
            RuntimeError(
                "DataLoader worker (pid 71) is killed by signal: Bus error. It is possible that "
                "dataloader's workers are out of shared memory."
            ),
            r"process 71\) ran out of shared memory .*--shm-size",
        ),
        (
            RuntimeError("DataLoader worker (pid(s) 71, 72) exited unexpectedly"),
            r"process 71, 72\) ended unexpectedly; .*NUM_WORKERS",
        ),
        (
            RuntimeError("DataLoader worker (pid 71) is killed by signal: Terminated. "),
            r"process 71\) was ended by SIGTERM; --resume",
        ),
        (MemoryError(), r"out of memory: .*IMS_PER_BATCH"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried\nto"), r"CUDA out of memory. Tried\. L"),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate m"
                "emory: you tried to allocate 9 bytes."
            ),
            r"out of memory: .*tried to allocate 9 bytes",
        ),
        (FileNotFoundError(errno.ENOENT, "No such file", "val.json"), r"^val.json cannot be used "),
        (OSError(errno.EMFILE, "Too many open files"), r"too many open files \(`ulimit -n`\)"),
        (BlockingIOError(errno.EAGAIN, "Try again"), r"too many processes or threads"),
        (RuntimeError(GLOO + "Connection closed by peer [127.0.0.1]:123"), r"process .* has ended"),
        (RuntimeError(GLOO + "Connection reset by peer"), r"another process .* has ended"),
        (
            distributed.DistNetworkError("failed to recv, got 0 bytes"),
            r"another process .* has end",
        ),
        (
            distributed.DistBackendError(
                "NCCL error in: /pytorch/nccl.cpp:1, remote process exited or there was a network "
                "error\nncclRemoteError: A call failed possibly due to a remote process exiting"
            ),
            r"another process .* has ended",
        ),
        (RuntimeError(GLOO + "Timed out waiting 1000ms for recv"), r"DISTRIBUTED.TIMEOUT"),
    ],
)
def test_what_the_system_did_is_a_sentence(error, said):
    found = explanation(error)
    assert isinstance(found, UserError)
    text = str(found)
    assert re.search(said, text)
    assert "\n" not in text
    assert "--resume continues a training run from its last checkpoint" in text
    assert isinstance(found, LostProcessError) == ("another process" in text)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("shape mismatch"),
        RuntimeError("Broken pipe"),  # of no group
        distributed.DistBackendError(
            "NCCL error in: /pytorch/nccl.cpp:1, invalid usage\nLast error:\n"
            "Duplicate GPU detected : rank 1 and rank 0 both on CUDA device 1000"
        ),
        OSError("a library's own"),
        KeyError("a"),
        AssertionError(),
    ],
)
def test_a_bug_keeps_its_traceback(error):
    assert explanation(error) is None
    with pytest.raises(type(error)) as caught, report_errors():
        raise error
    assert caught.value is error


def test_an_error_for_the_user_explains_itself():
    error = UserError("expected this, got that")
    assert explanation(error) is error


def test_a_killed_process_is_named_with_its_signal():
    assert ended_by(3, "SIGKILL").startswith("process 3 of this machine was ended by SIGKILL, as")
    assert ended_by(0, "SIGABRT").startswith("process 0 of this machine was ended by SIGABRT; ")


@pytest.mark.parametrize(
    "number, status, name",
    [(signal.SIGTERM, 143, "SIGTERM"), (signal.SIGINT, 130, r"SIGINT (Ctrl-C)")],
)
def test_a_signal_ends_a_command_with_one_line(number, status, name, capsys):
    finished = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # not as in a background job
    with pytest.raises(SystemExit) as caught, report_errors():
        try:
            os.kill(os.getpid(), number)
        finally:
            finished.append("what had been begun")
    signal.signal(signal.SIGINT, before)
    assert caught.value.code == status
    assert finished
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: stopped by {name};")
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


class Remove(HookBase):
    """Removes a file after the first iteration."""

    def __init__(self, file):
        self.file = file

    def after_step(self):
        """Remove it."""
        self.file.unlink(missing_ok=True)


@pytest.fixture
def log_file(tmp_path, monkeypatch):
    """The log of a run, which is written to the terminal too, and nothing of other tests."""
    monkeypatch.setattr(logging.getLogger("detectron2"), "handlers", [])
    setup_logger(str(tmp_path))
    return tmp_path / "log.txt"


@pytest.mark.parametrize("name", ["cells.json", "1.png"])
def test_a_file_that_goes_while_training_is_named_in_one_line(
    name, make_coco, tmp_path, log_file, capsys
):
    file, _ = make_coco("cells")
    cfg = tiny_config(
        tmp_path,
        *("DATASETS.COCO_FORMAT", str([["cells", str(file), str(file.parent)]])),
        *("DATASETS.TRAIN", "('cells',)", "DATASETS.TEST", "('cells',)"),
        *("MODEL.VFNET.NUM_CLASSES", "2", "TEST.EVAL_PERIOD", "2"),
    )
    register_coco_format(cfg)
    trainer = Trainer(cfg)
    trainer.register_hooks([Remove(file.parent / name)])
    trainer.resume_or_load(resume=False)
    with pytest.raises(SystemExit) as caught, report_errors():
        trainer.train()
    assert caught.value.code == 1
    written = capsys.readouterr()
    assert "Traceback" not in written.out + written.err
    (line,) = [x for x in written.err.splitlines() if x.startswith("error: ")]
    assert str(file.parent / name) in line
    assert "Traceback" in log_file.read_text()
