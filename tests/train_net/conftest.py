"""The command `train_net.py`, run in a process of its own or in this one."""

import importlib.util
import sys

import pytest

from tests.command import run_python
from tests.engine.tiny import CONFIG
from tests.train_net.runs import EVERYTHING_RANDOM, snapshot


@pytest.fixture(scope="module")
def train_net(request):
    """The script's module, for what needs no process of its own."""
    path = request.config.rootpath / "train_net.py"
    spec = importlib.util.spec_from_file_location("train_net_under_test", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def command(request):
    """Run the real command with these arguments; `how`: see `run_python`."""

    def run(*arguments, launcher=(), config=CONFIG, **how):
        script = request.config.rootpath / "train_net.py"
        words = (*launcher, script, "--config-file", config, *arguments)
        return run_python(*words, **how)

    return run


@pytest.fixture(scope="module")
def six_iterations(command, tmp_path_factory):
    """The folder of a run of six iterations without interruption."""
    folder = tmp_path_factory.mktemp("six")
    done = command("OUTPUT_DIR", folder, *EVERYTHING_RANDOM)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def fails(train_net, six_iterations, monkeypatch, capsys):
    """Run the command in this process in the folder of the finished run; return its error.

    Nothing in the folder may have changed.
    """

    def run(*arguments, config=CONFIG):
        before = snapshot(six_iterations)
        words = ["--config-file", config, *arguments]
        if "OUTPUT_DIR" not in arguments:
            words += ["OUTPUT_DIR", six_iterations]
        monkeypatch.setattr(sys, "argv", ["train_net.py", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            train_net.invoke_main()
        assert caught.value.code == 1
        assert snapshot(six_iterations) == before
        lines = capsys.readouterr().err.splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        assert len(errors) == 1
        return errors[0]

    return run
