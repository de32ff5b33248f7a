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

    It runs in a process as `start_copy` makes it, or with `fresh` in an interpreter of its own.
    """
    words = [str(argument) for argument in arguments]
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder, name) for name in ("stdout", "stderr")]
        run = _run_fresh if fresh else _run_copy
        status = run(words, outputs, cwd, variables, timeout)
        out, err = (path.read_text(errors="backslashreplace") for path in outputs)
    assert status is not None, f"no end after {timeout} s; it wrote:\n{out}\n{err}"
    return subprocess.CompletedProcess([sys.executable, *words], status, out, err)


def start_copy(words, outputs, cwd=None, variables=None):
    """Start Python with these arguments in a copy of a process that has imported.

    What all commands import takes longer than most of them, and nothing can happen to it. Of the
    process of the tests itself, threads and what tests have set would be copied, too.

    Args:
        words: as of the command line.
        outputs: files that it writes to, in place of standard output and of standard error; once
            they exist, the process leads a group of its own.
    """
    environment = {**os.environ, **ONE_THREAD, **(variables or {})}
    given = ([str(word) for word in words], outputs, cwd or os.getcwd(), environment)
    process = _importer().Process(target=_become, args=given)
    process.start()
    return process


def kill_group(process):
    """End all processes of a group as running out of memory does."""
    os.killpg(process.pid, signal.SIGKILL)


def _run_copy(words, outputs, cwd, variables, timeout):
    process = start_copy(words, outputs, cwd, variables)
    process.join(timeout)
    if process.exitcode is None:
        kill_group(process)
        process.join()
        return None
    return process.exitcode


def _run_fresh(words, outputs, cwd, variables, timeout):
    with outputs[0].open("wb") as out, outputs[1].open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, *words],
            cwd=cwd,
            env={**os.environ, **ONE_THREAD, **(variables or {})},
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            kill_group(process)
            process.wait()
            return None


@cache
def _importer():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["vfnet.engine"])
    with patch.dict(os.environ, ONE_THREAD):  # which the libraries read when they are imported
        forkserver.ensure_running()
    return context


def _become(words, outputs, cwd, environment):
    """Run what the words say in this process, as the interpreter would."""
    os.setsid()
    for stream, path in zip((1, 2), outputs):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    # Else it would ask the server that copied it for its own processes, such as loader workers.
    multiprocessing.set_start_method(None, force=True)
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
        atexit._run_exitfuncs()  # which multiprocessing leaves out
