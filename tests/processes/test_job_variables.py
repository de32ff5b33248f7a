"""What is made of a job's variables in the environment, of all and of some of them."""

import os

import pytest
import torch

from vfnet.errors import UserError
from vfnet.processes.job_variables import complete_job_variables

POD = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "pod-0", "MASTER_PORT": "29500"}
LOCAL = {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}


@pytest.fixture
def environment(monkeypatch):
    """A function: set these of the variables alone, complete them; return what is set then."""
    names = (*POD, *LOCAL)

    def complete(variables, device="cpu", num_gpus=1, num_machines=1):
        monkeypatch.setattr(os, "environ", {"PATH": "", **variables})
        complete_job_variables(device, num_gpus, num_machines)
        return {name: os.environ[name] for name in names if name in os.environ}

    return complete


def test_one_process_a_pod_is_the_first_of_its_machine(environment):
    assert environment(POD) == {**POD, "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}


@pytest.mark.parametrize(
    "variables, options",
    [
        ({}, {}),
        ({**POD, **LOCAL}, {}),
        ({"MASTER_ADDR": "pod-0", "MASTER_PORT": "29500"}, {}),
        ({"RANK": "0", "WORLD_SIZE": "1"}, {"num_gpus": 8}),
        (POD, {"num_machines": 2, "num_gpus": 8}),
    ],
    ids=["none", "torchrun", "a place to meet", "a job of one process", "--num-machines"],
)
def test_what_says_enough_stays_as_it_is(environment, variables, options):
    assert environment(variables, **options) == variables


WHOLE = {**POD, **LOCAL}
ORDER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@pytest.mark.parametrize(
    "missing",
    [
        [name for name in WHOLE if name != "RANK"],
        [name for name in WHOLE if name != "WORLD_SIZE"],
        [name for name in WHOLE if name != "LOCAL_RANK"],
        ["RANK"],
        ["WORLD_SIZE"],
        ["LOCAL_RANK"],
        ["LOCAL_WORLD_SIZE"],
        ["MASTER_ADDR", *LOCAL],
        ["MASTER_PORT"],
    ],
    ids=" ".join,
)
def test_a_part_of_the_variables_is_refused(environment, missing):
    present = {name: value for name, value in WHOLE.items() if name not in missing}
    with pytest.raises(UserError) as caught:
        environment(present)
    there, absent = str(caught.value).split("; start")[0].split(", but not ")
    assert there.endswith(": " + ", ".join(f"{n} {WHOLE[n]}" for n in ORDER if n in present))
    assert absent == ", ".join(name for name in ORDER if name in missing)


@pytest.mark.parametrize("rank, size", [("2", "2"), ("-1", "2"), ("one", "2"), ("0", "")])
def test_ranks_that_cannot_be(environment, rank, size):
    with pytest.raises(UserError, match=f"got RANK '{rank}' and WORLD_SIZE '{size}'"):
        environment({**POD, "RANK": rank, "WORLD_SIZE": size})


@pytest.mark.parametrize("rank, size", [("2", "2"), ("x", "2"), ("0", "two")])
def test_local_ranks_that_cannot_be(environment, rank, size):
    with pytest.raises(UserError, match=f"got LOCAL_RANK '{rank}' and LOCAL_WORLD_SIZE '{size}'"):
        environment({**POD, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": size})


def test_several_processes_or_gpus_in_a_pod_need_a_local_rank(environment, monkeypatch):
    with pytest.raises(UserError, match="RANK 1, WORLD_SIZE 2 without LOCAL_RANK .*num-gpus is 4"):
        environment(POD, num_gpus=4)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    with pytest.raises(UserError, match="there are 8 GPUs here"):
        environment(POD, device="cuda")
    assert environment(POD, device="cpu")["LOCAL_RANK"] == "0"
