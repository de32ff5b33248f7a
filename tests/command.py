"""Run a command as a user does, so that a hang becomes a failure and leaves nothing behind."""

import atexit
import contextlib
import json
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
# Before any test has set a variable of its own.
ENVIRONMENT = {**os.environ, **ONE_THREAD}


def run_python(*arguments, cwd=None, timeout=150, variables=None, fresh=False):
    """Run Python with these arguments on one thread; return what it wrote and its exit status.

    It runs in a process as `start_copy` makes it, or with `fresh` in an interpreter of its own: for
    what is about imports, variables that are read by them, memory, or the end of the interpreter.
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
    process of the tests itself, threads and what tests have set would be copied, too. Copies share
    the seed of Python's hashes and NumPy's first random numbers, and end without the interpreter's
    last steps.

    Args:
        words: as of the command line.
        outputs: files that it writes to, in place of standard output and of standard error; once
            they exist, the process leads a group of its own.
    """
    environment = {**os.environ, **ONE_THREAD, **(variables or {})}
    given = ([str(word) for word in words], outputs, str(cwd or os.getcwd()), environment)
    process = _importer().Process(target=_become, args=(*given, _import_path()))
    process.start()
    return process


def kill_group(process):
    """End all processes of a group as running out of memory does."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _run_copy(words, outputs, cwd, variables, timeout):
    process = start_copy(words, outputs, cwd, variables)
    try:
        process.join(timeout)
        return process.exitcode
    finally:
        if process.exitcode is None:
            kill_group(process)
            process.join()


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
            return None
        finally:
            if process.returncode is None:
                kill_group(process)
                process.wait()


@cache
def _importer():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["vfnet.engine"])
    with patch.dict(os.environ, ENVIRONMENT, clear=True):
        forkserver.ensure_running()
    return context


@cache
def _import_path():
    """Where an interpreter looks for modules, which is not all that the tests find."""
    code = "import json, sys; print(json.dumps(sys.path[1:]))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=ENVIRONMENT, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def _become(words, outputs, cwd, environment, import_path):
    """Run what the words say in this process, as the interpreter would."""
    os.setsid()
    for stream, path in zip((1, 2), outputs):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, stream)
        os.close(file)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    # Else it would ask the server that copied it for its own processes, such as loader workers.
    multiprocessing.set_start_method(None, force=True)
    option, *sys.argv = words if words[0] in ("-c", "-m") else ("", *words)
    script_folder = cwd if option else str(Path(sys.argv[0]).resolve().parent)
    sys.path[:] = [script_folder, *import_path]
    try:
        if option == "-c":
            code, sys.argv[0] = sys.argv[0], "-c"
            exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
        elif option == "-m":
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(sys.argv[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # which multiprocessing leaves out
