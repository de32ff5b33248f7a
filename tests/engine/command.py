"""Run a command as a user does, so that a hang becomes a failure and leaves nothing behind."""

import os
import signal
import subprocess
import sys


def run_python(*arguments, cwd=None, timeout=150, variables=None):
    """Run Python with these arguments on one thread; return what it wrote and its exit status."""
    process = subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(variables or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        # The whole group: the processes that the command started would otherwise live on.
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        raise AssertionError(f"no end after {timeout} s; it wrote:\n{out}\n{err}") from None
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)
