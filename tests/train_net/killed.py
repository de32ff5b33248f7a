"""The command `train_net.py` in a forked process that has imported everything, to be killed.

Of a command started anew most of the time goes to imports, which nothing can happen to.
"""

import multiprocessing
import os
import runpy
import signal
import sys
import time
from pathlib import Path

import torch

import vfnet.engine  # noqa: F401, what forked processes have imported
from tests.engine.tiny import CONFIG

SCRIPT = Path(__file__).parents[2] / "train_net.py"
# Forks of a process of its own: of this one, threads and what tests have set would be forked too.
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([__name__])
torch.set_num_threads(1)


def start(folder, *words):
    """Start it; it writes to a file `.txt` of its own in `folder`, and leads a process group."""
    folder.mkdir(exist_ok=True)
    out = folder / f"out{len(list(folder.glob('out*.txt')))}.txt"
    words = ["--config-file", CONFIG, *words, "OUTPUT_DIR", folder]
    process = _context.Process(target=_run, args=(out, [str(word) for word in words]))
    process.start()
    while not out.exists() and process.is_alive():
        time.sleep(0.001)
    return process, out


def kill(process):
    """End all its processes as running out of memory does."""
    os.killpg(process.pid, signal.SIGKILL)
    process.join()


def _run(out, words):
    os.setsid()
    # As in the command itself; what was forked by a server would ask it for loader workers too.
    multiprocessing.set_start_method("fork", force=True)
    with open(out, "wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = [str(SCRIPT), *words]
    runpy.run_path(str(SCRIPT), run_name="__main__")
