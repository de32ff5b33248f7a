"""A run of the real command that something happens to: its processes, and how they end."""

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
    """A line of /proc."""

    pid: int
    parent: int
    session: int
    state: str  # "Z": it has ended
    command: str


def processes_of(session):
    """The processes of a session that have not ended, by pid."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text()
            command = (folder / "cmdline").read_text().replace("\0", " ")
        except (FileNotFoundError, ProcessLookupError):
            continue
        state, parent, _, its_session = stat.rpartition(")")[2].split()[:4]
        if int(its_session) == session and state != "Z":
            pid = int(folder.name)
            found[pid] = Process(pid, int(parent), int(its_session), state, command)
    return found


class Run:
    """`train_net.py` on the smallest detector, in a session of its own, until something happens."""

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
        with open(self.out, "wb") as out, open(self.err, "wb") as err:
            self.process = subprocess.Popen(
                words,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdout=out,
                stderr=err,
                start_new_session=True,
                preexec_fn=ignore_interrupts if no_interrupt else None,
            )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        """Leave nothing behind, whatever the test has found."""
        for pid in processes_of(self.process.pid):
            os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def wait_for(self, condition, what, seconds=120):
        """Wait until a condition holds, or fail; the run may not have ended."""
        end = time.monotonic() + seconds
        while not condition():
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"no {what}; it wrote:\n{self.written()}")
            time.sleep(0.05)

    def wait_for_file(self, pattern):
        """Wait for a file in OUTPUT_DIR, such as a checkpoint."""
        self.wait_for(lambda: [*self.folder.glob(pattern)], pattern)

    def trainers(self):
        """The pids of the processes that train, in the order of their start."""
        children = self._children_of([self.process.pid])
        command = " ".join(self.process.args)
        alone = "torch.distributed.run" not in command and "--num-gpus 1 " in command
        return [self.process.pid] if alone else children

    def loaders(self):
        """The pids of the loaders' workers."""
        return self._children_of(self.trainers())

    def _children_of(self, parents):
        found = processes_of(self.process.pid).values()
        return sorted(
            p.pid for p in found if p.parent in parents and "resource_tracker" not in p.command
        )

    def end(self, seconds=60):
        """Wait for the end of all processes; return the exit status and the processes left."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and (
            self.process.poll() is None or processes_of(self.process.pid)
        ):
            time.sleep(0.05)
        return self.process.returncode, processes_of(self.process.pid)


def ignore_interrupts():
    """What `nohup` and `&` do."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
