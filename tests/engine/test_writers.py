"""What a training writes: its numbers are Detectron2's, with the epoch in the lines."""

import io
import logging
import re
import sys
from types import SimpleNamespace

import pytest
from detectron2.engine import hooks
from detectron2.utils.events import CommonMetricPrinter, EventStorage

from vfnet.engine import check_run
from vfnet.engine.event_files import EventFile
from vfnet.engine.progress_bar import ProgressBar
from vfnet.engine.writers import METRIC_LINES, build_writers, epoch_words
from vfnet.errors import UserError

from .tiny import GivenBatches, picture, tiny_config


def test_epochs_are_counted_in_iterations_that_are_done():
    assert epoch_words(0, 120, 10.0) == "epoch 0.1 of 12"
    assert epoch_words(31, 120, 10.0) == "epoch 3.2 of 12"
    assert epoch_words(119, 120, 10.0) == "epoch 12.0 of 12"
    assert epoch_words(2, 6, 4.5) == "epoch 0.7 of 1.3"
    assert epoch_words(2, 6, None) == ""


@pytest.mark.parametrize("epoch_length", [10.0, None])
def test_a_line_is_detectron2s_with_the_epoch_in_front(tmp_path, caplog, epoch_length):
    cfg = tiny_config(tmp_path)
    printer, *files = build_writers(cfg, 120, lambda: epoch_length, lambda: False)
    logging.getLogger("detectron2").propagate = True
    with EventStorage(30) as storage, caplog.at_level(logging.INFO):
        for loss in (4.0, 1.0, 2.0):
            storage.step()
            storage.put_scalars(total_loss=loss, time=2.0)
            storage.put_scalar("lr", loss, smoothing_hint=False)
        CommonMetricPrinter(120).write()
        printer.write()
    expected, line = (record.getMessage() for record in caplog.records)
    assert line == (" epoch 3.4 of 12 " if epoch_length else "") + expected
    # Medians of 20 iterations, the latest rate, and 86 iterations of 2 s.
    assert re.search(r"eta: 0:02:52  iter: 33  total_loss: 2  .*lr: 2 ", line)
    assert [type(writer) for writer in files] == [EventFile, EventFile]


def test_wandb_is_asked_for_before_the_run(tmp_path, monkeypatch):
    cfg = tiny_config(tmp_path, "WANDB.ENABLED", "True")
    monkeypatch.setattr("vfnet.utils.extras.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs the package wandb .*\[wandb\]"):
        check_run(cfg, [], "", training=True)
    monkeypatch.setattr("vfnet.utils.extras.find_spec", lambda name: name)
    cfg.WANDB.PROJECT = ""
    with pytest.raises(UserError, match="WANDB.PROJECT is empty"):
        check_run(cfg, [], "", training=True)


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
