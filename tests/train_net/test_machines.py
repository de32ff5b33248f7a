"""Several machines: two commands on loopback train as one machine with two processes does."""

import os
import re
import shlex
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from tests.train_net.runs import weights

RUN = ("SOLVER.MAX_ITER", "2", "SOLVER.WARMUP_FACTOR", "1.0")


@pytest.fixture
def address():
    """An address on loopback that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()


@pytest.fixture(scope="module")
def one_machine(command, tmp_path_factory):
    """The weights of one machine with two processes."""
    folder = tmp_path_factory.mktemp("one")
    done = command("--num-gpus", "2", "--dist-url", "auto", "OUTPUT_DIR", folder, *RUN)
    assert done.returncode == 0, done.stdout + done.stderr
    return weights(folder / "model_final.pth")


@pytest.mark.parametrize(
    "way",
    [
        "--num-machines",
        pytest.param("torchrun --nnodes", marks=pytest.mark.only_soak),
        pytest.param("a pod each", marks=pytest.mark.only_soak),
    ],
)
def test_two_machines_train_as_two_processes_of_one(way, command, one_machine, address, tmp_path):
    host, port = address

    def start(rank):
        output = ("OUTPUT_DIR", tmp_path / f"machine{rank}", *RUN)
        if way == "--num-machines":
            words = ("--num-machines", 2, "--machine-rank", rank, "--num-gpus", 1)
            return command(*words, "--dist-url", f"tcp://{host}:{port}", *output)
        if way == "a pod each":
            job = {"RANK": str(rank), "WORLD_SIZE": "2"}
            return command(
                *output, variables={**job, "MASTER_ADDR": host, "MASTER_PORT": str(port)}
            )
        words = ("--nnodes", 2, "--node-rank", rank, "--nproc-per-node", 1)
        rendezvous = ("--master-addr", host, "--master-port", port)
        return command(*output, launcher=("-m", "torch.distributed.run", *words, *rendezvous))

    with ThreadPoolExecutor() as pool:
        first, second = pool.map(start, range(2))
    assert first.returncode == 0, first.stdout + first.stderr
    assert second.returncode == 0, second.stdout + second.stderr
    assert "World size: 2" in first.stdout
    assert [path.parent.name for path in tmp_path.rglob("*.pth")] == ["machine0"]
    found = weights(tmp_path / "machine0" / "model_final.pth")
    assert found.keys() == one_machine.keys()
    for name, value in one_machine.items():
        assert torch.equal(found[name], value), name


# What SLURM's commands do, on this machine: `srun` runs its command once for each node, at a
# time of its own, with that node's variables.
FAKES = {
    "scontrol": "printf 'node7\\nnode9\\n'",
    "srun": """[ "$SRUN_CPUS_PER_TASK" = 64 ] || exit 1
    for n in $(seq 0 $((SLURM_NNODES - 1))); do SLURM_NODEID=$n "$@" || exit; done""",
    "python": 'echo python "$@"',
}


@pytest.fixture
def slurm(repository, tmp_path):
    """Run each sbatch script of docs/scaling.md on two nodes; return the commands started."""
    for name, text in FAKES.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    page = (repository / "docs" / "scaling.md").read_text()
    scripts = re.findall(r"```bash\n(#!/bin/bash\n.*?)```", page, re.DOTALL)
    job = {"SLURM_NNODES": "2", "SLURM_NODEID": "0", "SLURM_JOB_ID": "12"}
    job["SLURM_CPUS_PER_TASK"] = "64"
    nodes = {"SLURM_JOB_NODELIST": "node[7,9]"}
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    commands = []
    for script in scripts:
        done = subprocess.run(
            ["bash", "-c", script],
            env={**os.environ, **job, **nodes, **path},
            capture_output=True,
            text=True,
            check=True,
        )
        commands.append([shlex.split(line) for line in done.stdout.splitlines()])
    return commands


def option(command, name):
    return command[command.index(name) + 1]


def test_slurms_scripts_start_one_launcher_a_machine(slurm):
    by_torchrun, by_train_net = slurm
    assert len(by_torchrun) == len(by_train_net) == 2
    for command in by_torchrun:
        assert command[:3] == ["python", "-m", "torch.distributed.run"]
        assert "train_net.py" in command
        assert option(command, "--nnodes") == "2"
        assert option(command, "--rdzv-endpoint") == "node7:29500"
        assert option(command, "--rdzv-id") == "12"
    for rank, command in enumerate(by_train_net):
        assert command[:2] == ["python", "train_net.py"]
        assert option(command, "--num-machines") == "2"
        assert option(command, "--machine-rank") == str(rank)
        assert option(command, "--dist-url") == "tcp://node7:29500"
