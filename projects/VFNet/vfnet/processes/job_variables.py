"""The job that the environment says this process belongs to: torchrun's variables, or some."""

import os

import torch

from ..errors import UserError

_OF_THE_JOB = ("RANK", "WORLD_SIZE")
_ON_THIS_MACHINE = ("LOCAL_RANK", "LOCAL_WORLD_SIZE")
_MEETING_POINT = ("MASTER_ADDR", "MASTER_PORT")


def is_torchrun() -> bool:
    """Whether `torchrun` (or what sets the same variables) has started this process."""
    return all(name in os.environ for name in (*_OF_THE_JOB, *_ON_THIS_MACHINE))


def complete_job_variables(device: str, num_gpus: int, num_machines: int) -> None:
    """Set what `torchrun` would have set, where the rest says it; refuse variables that do not.

    Operators of Kubernetes, such as Kubeflow's for a PyTorchJob, start one process in each pod with
    RANK, WORLD_SIZE and where to meet: LOCAL_RANK is 0 and LOCAL_WORLD_SIZE is 1 then. A process
    that ignored them would train alone, into the same folder as the others. They play no part where
    `--num-machines` says what the job is, or in a job of one process.

    Args:
        device: MODEL.DEVICE.
        num_gpus: what `--num-gpus` asks for.
        num_machines: machines of the job, as the command line says.

    Raises:
        UserError: some are missing, they are no numbers of processes, or there is more than one
            process or GPU on this machine.
    """
    names = (*_OF_THE_JOB, *_ON_THIS_MACHINE, *_MEETING_POINT)
    present = [name for name in names if name in os.environ]
    missing = [name for name in names if name not in os.environ]
    of_processes = [name for name in present if name not in _MEETING_POINT]
    if num_machines > 1 or not of_processes:
        return
    if not is_torchrun() and os.environ.get("WORLD_SIZE") == "1":
        return
    if missing and missing != list(_ON_THIS_MACHINE):
        raise UserError(
            f"the environment holds a part of a job's variables: {_with_values(present)}, but not "
            f"{', '.join(missing)}; start this with torchrun, which sets all of them, or unset "
            f"{', '.join(of_processes)} to train on this machine alone"
        )
    _check_rank(*_OF_THE_JOB)
    if missing:
        _check_one_process(device, num_gpus)
        os.environ.update(LOCAL_RANK="0", LOCAL_WORLD_SIZE="1")
    _check_rank(*_ON_THIS_MACHINE)


def _with_values(names: list[str]) -> str:
    return ", ".join(f"{name} {os.environ[name]}" for name in names)


def _check_rank(rank_name: str, size_name: str) -> None:
    rank, size = os.environ[rank_name], os.environ[size_name]
    if not (rank.isdecimal() and size.isdecimal() and int(rank) < int(size)):
        raise UserError(
            f"expected {rank_name} to be a number from 0 up to {size_name} - 1 in the environment, "
            f"got {rank_name} {rank!r} and {size_name} {size!r}"
        )


def _check_one_process(device: str, num_gpus: int) -> None:
    gpus = torch.cuda.device_count() if device.startswith("cuda") else 0
    if num_gpus > 1 or gpus > 1:
        found = f"--num-gpus is {num_gpus}" if num_gpus > 1 else f"there are {gpus} GPUs"
        raise UserError(
            f"{_with_values(list(_OF_THE_JOB))} without {' and '.join(_ON_THIS_MACHINE)} is one "
            f"process on each machine, but {found} here; start this with torchrun on each machine, "
            "give --num-machines, --machine-rank and --dist-url, or set the two variables"
        )
