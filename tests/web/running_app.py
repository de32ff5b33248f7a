"""demo/app.py in a process of its own."""

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import NamedTuple

APP = Path(__file__).resolve().parents[2] / "demo" / "app.py"
SECONDS = 150


class App(NamedTuple):
    """The command, and the address of its page."""

    process: subprocess.Popen
    address: str


@contextlib.contextmanager
def running_app(*words, terminal, variables, cwd=None, launcher=()):
    """Start it and wait for its page; it ends by SIGTERM.

    What it writes to stderr goes into `terminal`, a path.
    """
    with open(terminal, "w") as file:
        process = subprocess.Popen(
            [sys.executable, *map(str, (*launcher, APP, *words))],
            cwd=cwd,
            env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
        )
    watchdog = threading.Timer(SECONDS, process.kill)  # a hang becomes a failure
    watchdog.start()
    try:
        line = next((line for line in process.stdout if "The page is at" in line), None)
        assert line, terminal.read_text()
        yield App(process, line.split()[4])
    finally:
        process.terminate()
        process.communicate()
        watchdog.cancel()
