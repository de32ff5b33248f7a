"""Which device a program runs on, by its config, its command line and what is there."""

import os

import torch

from ..errors import UserError
from .job_variables import is_torchrun


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
