"""The command `train_net.py`, started to be killed."""

import time
from pathlib import Path

from tests.command import kill_group, start_copy
from tests.engine.tiny import CONFIG

SCRIPT = Path(__file__).parents[2] / "train_net.py"


def start(folder, *words):
    """Start it; it writes to a file `.txt` of its own in `folder`, and leads a process group."""
    folder.mkdir(exist_ok=True)
    out = folder / f"out{len(list(folder.glob('out*.txt')))}.txt"
    words = (SCRIPT, "--config-file", CONFIG, *words, "OUTPUT_DIR", folder)
    process = start_copy(words, (out, out))
    while not out.exists() and process.is_alive():
        time.sleep(0.001)
    return process, out


def kill(process):
    """End all its processes as running out of memory does."""
    kill_group(process)
    process.join()
