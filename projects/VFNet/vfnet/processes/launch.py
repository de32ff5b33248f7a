"""Start a program on the right device, on one process or many."""

import gc
import logging
import os
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import launch as spawn
from detectron2.engine.launch import DEFAULT_TIMEOUT
from detectron2.utils import comm
from torch import distributed as dist
from torch import multiprocessing as mp

from ..errors import UserError
from ..utils.quiet import ignore_known_warnings
from .device import choose_device
from .explanations import LostProcessError, ended_by, explanation
from .job_variables import complete_job_variables, is_torchrun
from .reporting import message_of
from .signals import end_with_parent

# Characters; the messages of eight processes fit into a pipe of 64 KiB.
_LONGEST_MESSAGE = 4000
# Seconds in which a process that was left alone leaves it to the cause to be seen first.
_CAUSE_FIRST = 3


def launch(
    main: Callable[..., Any],
    args: tuple[Any, ...],
    *,
    device: str,
    num_gpus: int = 1,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str = "auto",
    timeout: timedelta = DEFAULT_TIMEOUT,
) -> None:
    """Call `main(*args)` on every process of the job.

    Under `torchrun`, or in pods (see `complete_job_variables`), the processes exist, and the four
    numbers play no part. Otherwise, this machine's processes are started here, if there is more
    than one in the job.

    Args:
        main: a module's function; it finds its rank in `detectron2.utils.comm`, and must use the
            device that `choose_device` gives for `device`.
        args: arguments for it, picklable.
        device: MODEL.DEVICE of the config.
        num_gpus: GPUs to use on this machine, or with device "cpu" processes to start here.
        num_machines: machines of the job.
        machine_rank: number of this machine.
        dist_url: where the processes meet, as Detectron2's `launch` takes it.
        timeout: how long a process waits for another one.

    Raises:
        UserError: a GPU is asked for that is not there, variables of a job are missing, `main`
            raised it on some process, or a process was killed.
    """
    complete_job_variables(device, num_gpus, num_machines)
    chosen = choose_device(device, num_gpus)
    if chosen != device and int(os.environ.get("LOCAL_RANK", 0)) == 0:
        reason = "--num-gpus is 0" if torch.cuda.is_available() else "there is no GPU"
        print(f"MODEL.DEVICE is {device}, but {reason}: running on the CPU", flush=True)
    if is_torchrun():
        _join_torchrun(main, args, chosen, timeout)
        return
    num_processes = max(num_gpus, 1)
    if num_processes * num_machines == 1:
        main(*args)
        return
    if num_machines > 1 and dist_url == "auto":
        raise UserError(
            "--dist-url auto is for one machine; with --num-machines give the first machine's "
            "address to all of them, for example --dist-url tcp://10.0.0.1:29500"
        )
    if chosen == "cpu":
        # Detectron2 picks NCCL wherever it sees a GPU, and NCCL has no CPU tensors.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    job = (num_processes, num_machines, machine_rank, dist_url)
    _spawn(job, main, args, chosen, timeout)


def group_timeout(cfg: CfgNode) -> timedelta:
    """DISTRIBUTED.TIMEOUT: how long a process of the job waits for another one.

    Raises:
        UserError: it is not positive.
    """
    seconds = cfg.DISTRIBUTED.TIMEOUT
    if not isinstance(seconds, int) or seconds < 1:
        raise UserError(f"DISTRIBUTED.TIMEOUT has to be at least one second, got {seconds!r}")
    return timedelta(seconds=seconds)


def _spawn(
    job: tuple[int, int, int, str],
    main: Callable[..., Any],
    args: tuple[Any, ...],
    device: str,
    timeout: timedelta,
) -> None:
    """Start this machine's processes, and wait for them; where one fails, end the others."""
    # Both tell of the processes that are ended here, which the error already does.
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)
    os.environ["PYTHONWARNINGS"] = ",".join(
        filter(None, ["ignore:resource_tracker", os.environ.get("PYTHONWARNINGS")])
    )
    messages = mp.get_context("spawn").SimpleQueue()
    others = set(mp.active_children())
    try:
        spawn(_spawned, *job, args=(messages, main, args, device), timeout=timeout)
    except mp.ProcessExitedException as error:
        if not messages.empty():
            raise UserError(messages.get()) from None
        if error.signal_name is None:
            raise
        raise UserError(ended_by(error.error_index, error.signal_name)) from None
    finally:
        # After SIGINT or SIGTERM here; at its end, Python would wait for them.
        for process in set(mp.active_children()) - others:
            process.kill()


def _spawned(messages: Any, main: Callable[..., Any], args: tuple[Any, ...], device: str) -> None:
    end_with_parent()
    ignore_known_warnings()
    _share_cores(device, comm.get_local_size())
    try:
        main(*args)
    except KeyboardInterrupt:
        sys.exit(130)  # PyTorch, which calls this, would make 0 of it
    except Exception as error:
        if (found := explanation(error)) is None:
            raise
        if isinstance(found, LostProcessError):
            time.sleep(_CAUSE_FIRST)
        # The parent prints what it finds here, once, and ends the other processes.
        # Cut: a longer text would not fit into the pipe, and wait there for a parent that waits.
        messages.put(message_of(found)[:_LONGEST_MESSAGE])
        sys.exit(1)
    _leave_group()


def _join_torchrun(
    main: Callable[..., Any], args: tuple[Any, ...], device: str, timeout: timedelta
) -> None:
    if dist.is_torchelastic_launched():
        end_with_parent()
    local_size = int(os.environ["LOCAL_WORLD_SIZE"])
    on_cuda = torch.device(device).type == "cuda"
    if on_cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if on_cuda else "gloo", init_method="env://", timeout=timeout)
    comm.create_local_process_group(local_size)
    comm.synchronize()
    main(*args)
    _leave_group()


def _leave_group() -> None:
    """End the process group, and gloo's threads with it, before Python ends.

    Such a thread lets go of a collective's tensors a moment after the collective, which takes the
    interpreter's lock. If Python is ending by then, its thread is, too, and the process is aborted:
    "terminate called without an active exception". The threads are waited for where the last
    reference to their group goes.
    """
    # Together: the first process holds the store that the others may still be reading.
    comm.synchronize()
    # What is left of trained models refers to the group; C++ would wait with the lock in its hands.
    gc.collect()
    # Detectron2 keeps its groups for ever, in these two places.
    comm._LOCAL_PROCESS_GROUP = None
    comm._get_global_gloo_group.cache_clear()
    dist.destroy_process_group()


def _share_cores(device: str, num_processes: int) -> None:
    """Give each CPU process its share of the cores: all of them each is much slower."""
    if device == "cpu" and num_processes > 1 and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // num_processes))
