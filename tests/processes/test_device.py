"""On which device a program lands."""

import pytest

from vfnet.errors import UserError
from vfnet.processes import choose_device


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
