"""A run of the real command that something happens to: its processes, and how they end."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from tests.engine.tiny import CONFIG

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


class Process(NamedTuple):
    """A process that has not ended, as /proc has it."""

    pid: int
    parent: int
    command: str


def processes_with(variable):
    """All processes that were started with a variable, given as NAME=VALUE, in the environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            variables = (folder / "environ").read_bytes().split(b"\0")
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if variable.encode() in variables and state not in "ZX":
            found.append(Process(int(folder.name), int(parent), command))
    return found


class Run:
    """`train_net.py` on the smallest detector, in a session of its own, until something happens.

    Its processes are told by a variable: torchrun gives those that it starts sessions of their own.
    """

    def __init__(self, folder, *keys, processes=1, launcher=(), no_interrupt=False):
        """Start it, with a worker that loads for each process, and checkpoints early.

        Args:
            folder: OUTPUT_DIR.
            keys: further keys and values.
            processes: as `--num-gpus` says.
            launcher: what stands between Python and the script.
            no_interrupt: SIGINT is ignored, as under `nohup` and in a shell's background.
        """
        self.folder = Path(folder)
        # Files: a pipe that nobody reads fills up, and stops what writes.
        self.out, self.err = (self.folder.with_suffix(suffix) for suffix in (".out", ".err"))
        script = Path(__file__).parents[2] / "train_net.py"
        words = [*launcher, script, "--config-file", CONFIG, "--num-gpus", processes]
        words += ["OUTPUT_DIR", folder, "SOLVER.MAX_ITER", 100_000, "DATALOADER.NUM_WORKERS", 1]
        words = [sys.executable, *map(str, [*words, *keys])]
        self.is_alone = processes == 1 and not launcher
        self.variable = f"VFNET_TESTED_RUN={folder}"
        name, _, value = self.variable.partition("=")
        with open(self.out, "wb") as out, open(self.err, "wb") as err:
            self.process = subprocess.Popen(
                words,
                env={**os.environ, "OMP_NUM_THREADS": "1", name: value},
                stdout=out,
                stderr=err,
                start_new_session=True,
                preexec_fn=ignore_interrupts if no_interrupt else heed_interrupts,
            )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        """Leave nothing behind, whatever the test has found."""
        for process in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        self.process.wait()

    def processes(self):
        """All that belong to the run and have not ended."""
        return processes_with(self.variable)

    def wait_for_file(self, name, seconds=300):
        """Wait for a file in OUTPUT_DIR, such as a checkpoint; the run may not have ended."""
        end = time.monotonic() + seconds
        while not (self.folder / name).exists():
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"no {name}; it wrote:\n{self.written()}")
            time.sleep(0.05)

    def written(self):
        """What it has written to the terminal."""
        return self.out.read_text() + self.err.read_text()

    def trainers(self):
        """The pids of the processes that train, in the order of their start."""
        return [self.process.pid] if self.is_alone else self._children_of([self.process.pid])

    def loaders(self):
        """The pids of the loaders' workers."""
        return self._children_of(self.trainers())

    def _children_of(self, parents):
        return sorted(
            process.pid
            for process in self.processes()
            if process.parent in parents and "resource_tracker import main" not in process.command
        )

    def end(self, seconds):
        """Wait for the end of all processes; return the exit status and the processes left."""
        end = time.monotonic() + seconds
        while (self.process.poll() is None or self.processes()) and time.monotonic() < end:
            time.sleep(0.05)
        return self.process.returncode, self.processes()


def ignore_interrupts():
    """What `nohup` and `&` do."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def heed_interrupts():
    """What a terminal does, wherever the tests themselves run."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
