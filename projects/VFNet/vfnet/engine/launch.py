"""Start a program on the right device, on one process or many, and report its errors once."""

import contextlib
import gc
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import torch
from detectron2.engine import launch as spawn
from detectron2.engine.launch import DEFAULT_TIMEOUT
from detectron2.utils import comm
from torch import distributed as dist
from torch import multiprocessing as mp

from ..errors import UserError
from ..utils.quiet import ignore_known_warnings
from ..utils.text import one_line
from .explanations import LostProcessError, ended_by, explanation, sigterm
from .job_variables import complete_job_variables, is_torchrun
from .signals import Stopped, end_with_parent, stopped_by_sigterm

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


def choose_device(device: str, num_gpus: int) -> str:
    """Return the device to run on: `device`, or "cpu" where that is CUDA and there is no GPU.

    Args:
        device: MODEL.DEVICE.
        num_gpus: what `--num-gpus` asks for; under `torchrun` its processes per machine count.

    Raises:
        UserError: `device` is no device of PyTorch, or more GPUs are asked for than there are.
    """
    try:
        device_type = torch.device(device).type
    except (RuntimeError, TypeError):
        device_type = ""
    if device_type not in ("cuda", "cpu"):
        raise UserError(f"MODEL.DEVICE must be 'cuda' or 'cpu', got {device!r}")
    if num_gpus < 0:
        raise UserError(f"--num-gpus must not be negative, got {num_gpus}")
    if device_type != "cuda":
        return device
    if torch.device(device).index is not None and (num_gpus > 1 or is_torchrun()):
        raise UserError(
            f"MODEL.DEVICE {device} is one GPU, and each of several processes takes its own; "
            "set MODEL.DEVICE cuda"
        )
    present = torch.cuda.device_count()
    if is_torchrun():
        asked, option = int(os.environ["LOCAL_WORLD_SIZE"]), "--nproc-per-node"
    else:
        asked, option = num_gpus, "--num-gpus"
    # Under torchrun nobody asked for GPUs by number: without any, the processes share the CPU.
    if asked == 0 or (not present and (asked == 1 or is_torchrun())):
        return "cpu"
    if asked > present:
        raise UserError(
            f"{option} {asked} asks for {asked} GPUs, but {present} are present; "
            f"give {option} {max(present, 1)}, or MODEL.DEVICE cpu to run {asked} CPU processes"
        )
    return device


@contextlib.contextmanager
def report_errors() -> Iterator[None]:
    """Turn what is no bug into one line `error: ...` on stderr and exit status 1.

    That is a `UserError`, what `explanation` knows, and Ctrl-C and SIGTERM, whose statuses are 130
    and 143 as a shell has them. What names in it may hold, such as a line's end or a terminal's
    control, is escaped.

    Of the processes that `torchrun` started on a machine, only the first to fail prints. Known
    warnings of dependencies do not reach the terminal.
    """
    ignore_known_warnings()
    try:
        with stopped_by_sigterm():
            yield
    except (KeyboardInterrupt, Stopped) as error:
        terminated = isinstance(error, Stopped)
        name, status = (sigterm(), Stopped.STATUS) if terminated else ("SIGINT (Ctrl-C)", 130)
        _print_error(f"stopped by {name}; what had been written by then is whole")
        raise SystemExit(status) from None
    except Exception as error:
        if (found := explanation(error)) is None:
            raise
        _print_error(_message(found))
        raise SystemExit(1) from None


def _print_error(message: str) -> None:
    if _first_to_report():
        print(f"error: {message}", file=sys.stderr, flush=True)


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
        messages.put(_message(found)[:_LONGEST_MESSAGE])
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


def _message(error: UserError) -> str:
    """Return an error's own message, without the traceback that a data loader's worker adds."""
    own = re.search(r"^Caught \w+ in DataLoader worker.*\n[\w.]+Error: (.*)$", str(error), re.S)
    return one_line((own.group(1) if own else str(error)).strip())


def _first_to_report() -> bool:
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return True
    attempt = [os.environ.get(name, "0") for name in ("TORCHELASTIC_RESTART_COUNT", "GROUP_RANK")]
    address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    try:
        store = dist.TCPStore(*address, timeout=timedelta(seconds=5))
        return store.add("/".join(["vfnet", "errors", *attempt]), 1) == 1
    except dist.DistError:  # torchrun, whose store it is, has gone
        return True
