"""The command `train_net.py`, started to be killed."""

import contextlib
import time
from pathlib import Path

from tests.command import kill_group, start_copy
from tests.engine.tiny import CONFIG

SCRIPT = Path(__file__).parents[2] / "train_net.py"


@contextlib.contextmanager
def running(folder, *words):
    """Start it in a folder -> the process, and the file that it writes to; kill it at the end."""
    folder.mkdir(exist_ok=True)
    out = folder / f"out{len(list(folder.glob('out*.txt')))}.txt"
    words = (SCRIPT, "--config-file", CONFIG, *words, "OUTPUT_DIR", folder)
    process = start_copy(words, (out, out))
    try:
        while not out.exists() and process.is_alive():
            time.sleep(0.001)
        yield process, out
    finally:
        if process.is_alive():
            kill_group(process)
        process.join()
