"""Run a command as a user does, so that a hang becomes a failure and leaves nothing behind."""

import atexit
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from functools import cache
from multiprocessing import forkserver
from pathlib import Path
from unittest.mock import patch

ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def run_python(*arguments, cwd=None, timeout=150, variables=None, fresh=False):
    """Run Python with these arguments on one thread; return what it wrote and its exit status.

    The process is a copy of one that has imported what all commands import, which takes longer
    than most of them; with `fresh` it is an interpreter that imports by itself.
    """
    words = [str(argument) for argument in arguments]
    environment = {**os.environ, **ONE_THREAD, **(variables or {})}
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder, name) for name in ("stdout", "stderr")]
        start = _start if fresh else _copy
        status = start(words, cwd or os.getcwd(), environment, outputs, timeout)
        out, err = (path.read_text(errors="backslashreplace") for path in outputs)
    assert status is not None, f"no end after {timeout} s; it wrote:\n{out}\n{err}"
    return subprocess.CompletedProcess([sys.executable, *words], status, out, err)


def _start(words, cwd, environment, outputs, timeout):
    """Run an interpreter -> its exit status, None where it had to be killed."""
    with outputs[0].open("wb") as out, outputs[1].open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, *words],
            cwd=cwd,
            env=environment,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            _kill(process.pid)
            process.wait()
            return None


def _copy(words, cwd, environment, outputs, timeout):
    """As `_start`, in a copy of the process that has imported."""
    process = _importer().Process(target=_become, args=(words, cwd, environment, outputs))
    process.start()
    process.join(timeout)
    if process.exitcode is None:
        _kill(process.pid)
        process.join()
        return None
    return process.exitcode


def _kill(group):
    # The whole group: the processes that the command started would otherwise live on.
    os.killpg(group, signal.SIGKILL)


@cache
def _importer():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["vfnet.engine"])
    with patch.dict(os.environ, ONE_THREAD):  # which the libraries read when they are imported
        forkserver.ensure_running()
    return context


def _become(words, cwd, environment, outputs):
    """Run what the words say in this process, as the interpreter would."""
    os.setsid()
    for stream, path in zip((1, 2), outputs):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    option, *sys.argv = words if words[0] in ("-c", "-m") else ("", *words)
    try:
        if option == "-c":
            code, sys.argv[0] = sys.argv[0], "-c"
            exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
        elif option == "-m":
            sys.path.insert(0, cwd)
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        else:
            sys.path.insert(0, str(Path(sys.argv[0]).resolve().parent))
            runpy.run_path(sys.argv[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # which multiprocessing would leave out
