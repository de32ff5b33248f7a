"""Copies to a device that the host does not wait for."""

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device; from the CPU to a GPU, without waiting until it is there.

    A GPU copies by itself from pinned memory alone. From any other the host takes part, when
    everything that was queued before is done.
    """
    if tensor.device.type != "cpu":
        return tensor.to(device)
    if device.type == "cuda":
        tensor = tensor.pin_memory()  # itself, where the data loader did so already
    return tensor.to(device, non_blocking=True)
