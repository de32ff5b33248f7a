"""The bar on a terminal: all else stands above it, and log files have the lines."""

import io
import logging
import re
import sys
from types import SimpleNamespace

import pytest
from detectron2.engine import hooks

from tests.engine.tiny import GivenBatches, picture, tiny_config
from vfnet.engine.event_writers.writers import METRIC_LINES
from vfnet.engine.hooks.progress_bar import ProgressBar


class Loader(list):
    num_records = 3  # of batches of 2


class Terminal(io.StringIO):
    def isatty(self):
        return True


def on_terminal(monkeypatch):
    """A terminal in place of standard output, to which Detectron2 logs, and a log file.

    Within the test: pytest puts its own in place between a fixture and its test.
    """
    terminal, file = Terminal(), io.StringIO()
    logger = logging.getLogger("detectron2")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "level", logging.INFO)
    monkeypatch.setattr(sys, "stdout", terminal)
    for stream in (terminal, file):
        logger.addHandler(logging.StreamHandler(stream))
    return SimpleNamespace(screen=terminal, file=file, handlers=list(logger.handlers))


def train(cfg, loader, max_iter=3):
    class Given(GivenBatches):
        batches = loader

        @classmethod
        def build_train_loader(cls, cfg, *, seed=0, start_iter=0):
            return cls.batches

    cfg.SOLVER.MAX_ITER = max_iter
    trainer = Given(cfg)
    trainer.train()
    return trainer


BATCH = [picture(1), picture(2)]


def test_a_terminal_has_a_bar_with_all_else_above_it_and_the_file_has_the_lines(
    tmp_path, monkeypatch
):
    terminal = on_terminal(monkeypatch)

    class Prints(hooks.HookBase):
        def after_step(self):
            print("printed")

    class Given(GivenBatches):
        def build_hooks(self):
            return [*super().build_hooks(), Prints()]

        @classmethod
        def build_train_loader(cls, cfg, *, seed=0, start_iter=0):
            return Loader([BATCH] * 3)

    trainer = Given(tiny_config(tmp_path, "SOLVER.MAX_ITER", "3"))
    trainer.train()
    screen, file = terminal.screen.getvalue(), terminal.file.getvalue()
    assert "epoch 2.0 of 2, loss" in screen and "3/3" in screen
    # What is printed begins where the bar was wiped off, and ends its line.
    printed = re.findall(r"(\S*) *\r(printed\n)", screen)
    assert len(printed) == screen.count("printed") == 3
    assert " epoch 2.0 of 2 " in file and "iter: 2  total_loss" in file
    assert "iter: 2" not in screen
    assert "Starting training" in screen and "Overall" not in file.partition("Starting")[0]
    # Afterwards all is as before.
    assert sys.stdout is terminal.screen
    assert [handler.stream for handler in terminal.handlers] == [terminal.screen, terminal.file]
    assert not any(handler.filters for handler in terminal.handlers)
    logging.getLogger(METRIC_LINES).info("a line")
    assert "a line" in terminal.screen.getvalue()


def test_a_run_that_fails_leaves_the_terminal_as_it_was(tmp_path, monkeypatch):
    terminal = on_terminal(monkeypatch)
    with pytest.raises(StopIteration):
        train(tiny_config(tmp_path), [BATCH], max_iter=2)
    assert sys.stdout is terminal.screen
    assert [handler.stream for handler in terminal.handlers] == [terminal.screen, terminal.file]


def test_a_pipe_has_lines_and_no_bar(tmp_path, monkeypatch):
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stdout", pipe)
    trainer = train(tiny_config(tmp_path), Loader([BATCH] * 3))
    assert not any(isinstance(hook, ProgressBar) for hook in trainer._hooks)
    assert "\r" not in pipe.getvalue()
    assert trainer.epoch_length == 1.5
