"""What a training writes: its numbers are Detectron2's, with the epoch in the lines."""

import logging
import re

import pytest
from detectron2.utils.events import CommonMetricPrinter, EventStorage

from tests.engine.tiny import tiny_config
from vfnet.engine import check_run
from vfnet.engine.event_writers.event_files import EventFile
from vfnet.engine.event_writers.writers import build_writers, epoch_words
from vfnet.errors import UserError


def test_epochs_are_counted_in_iterations_that_are_done():
    assert epoch_words(0, 120, 10.0) == "epoch 0.1 of 12"
    assert epoch_words(31, 120, 10.0) == "epoch 3.2 of 12"
    assert epoch_words(119, 120, 10.0) == "epoch 12.0 of 12"
    assert epoch_words(2, 6, 4.5) == "epoch 0.7 of 1.3"
    assert epoch_words(2, 6, None) == ""


@pytest.mark.parametrize("epoch_length", [10.0, None])
def test_a_line_is_detectron2s_with_the_epoch_in_front(tmp_path, caplog, epoch_length):
    cfg = tiny_config(tmp_path)
    printer, *files = build_writers(cfg, 120, lambda: epoch_length, lambda: 0)
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
