"""Files that cannot be written: one line says which, and what the run goes on with."""

import shutil
import threading
from types import SimpleNamespace

import pytest
from detectron2.evaluation import COCOEvaluator
from detectron2.utils.events import EventStorage, JSONWriter, TensorboardXWriter

from tests.full_disk import full_disk
from vfnet.engine import Trainer
from vfnet.engine.event_writers.event_files import EventFile
from vfnet.engine.failures import failures_in_one_line
from vfnet.errors import UserError
from vfnet.utils.files import WriteError

from .tiny import GivenBatches, picture, tiny_config, train_on

EACH = ("SOLVER.CHECKPOINT_PERIOD", "1")


@pytest.fixture
def begun(tmp_path):
    """The folder of a run with one iteration and its checkpoint."""
    train_on(tiny_config(tmp_path, *EACH), [picture(1)])
    (tmp_path / "last_checkpoint").write_text("model_0000000.pth")
    (tmp_path / "model_final.pth").unlink()
    return tmp_path


def go_on(folder, interfere):
    """Continue for two iterations, and interfere before the first."""

    class Given(GivenBatches):
        batches = [[picture(seed)] for seed in (1, 2, 3)]

        def run_step(self):
            interfere()
            super().run_step()

    trainer = Given(tiny_config(folder, "SOLVER.MAX_ITER", "3", *EACH))
    trainer.resume_or_load(resume=True)
    trainer.train()


def test_a_checkpoint_that_cannot_be_written_ends_the_run(begun, capsys):
    before = {path.name: path.read_bytes() for path in begun.glob("*") if "e" in path.suffix}
    checkpoints = {path.name: path.read_bytes() for path in begun.glob("*checkpoint*")}
    checkpoints |= {path.name: path.read_bytes() for path in begun.glob("*.pth")}
    with full_disk(1_000_000), pytest.raises(WriteError) as caught:
        go_on(begun, lambda: None)
    path, last = begun / "model_0000001.pth", begun / "model_0000000.pth"
    assert str(caught.value) == (
        f"{path} cannot be written: File too large; training stopped at iteration 1. "
        f"{last} is as it was, and --resume goes on with it"
    )
    assert "Traceback" not in capsys.readouterr().out
    names = {path.name for path in begun.iterdir()}
    assert names >= before.keys() | checkpoints.keys() and not any(".tmp" in n for n in names)
    for name, content in checkpoints.items():
        assert (begun / name).read_bytes() == content
    go_on(begun, lambda: None)
    assert (begun / "model_final.pth").is_file()


def test_a_folder_that_is_removed_ends_the_run(begun):
    with pytest.raises(UserError) as caught:
        go_on(begun, lambda: shutil.rmtree(begun))
    assert f"{begun / 'model_0000001.pth'} cannot be written: No such file" in str(caught.value)
    assert str(caught.value).endswith("No checkpoint had been written by then")


def test_data_that_is_removed_ends_the_run(begun):
    def gone():
        with open(begun / "val.json"):
            pass

    with pytest.raises(UserError, match="val.json: No such file .* at iteration 1. .*0.pth is as"):
        go_on(begun, gone)


def test_detections_that_cannot_be_written_name_their_folder(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(COCOEvaluator, "evaluate", full)
    cfg = tiny_config(tmp_path, "DATASETS.TEST", "('shapes_val',)")
    with pytest.raises(WriteError, match=f"^{tmp_path}/inference cannot be written: No space"):
        Trainer.test(cfg, Trainer.build_model(cfg))


def write_scalars(writer):
    with EventStorage(0) as storage:
        for iteration in range(3):
            storage.iter = iteration
            storage.put_scalars(loss=1.0)
            writer.write()


def test_metrics_on_a_full_disk_are_named_once(tmp_path):
    writer = EventFile(lambda: JSONWriter("/dev/full"), "metrics.json")
    with pytest.raises(WriteError, match="metrics.json cannot be written: No space left"):
        write_scalars(writer)
    write_scalars(writer)
    writer.close()


def test_events_on_a_full_disk_are_named_once(tmp_path, capsys):
    writer = EventFile(lambda: TensorboardXWriter(str(tmp_path)), "events.out.tfevents")
    hook = threading.excepthook
    with (
        pytest.raises(WriteError, match="events.* cannot be written: File too large"),
        failures_in_one_line(SimpleNamespace(iter=0), str(tmp_path)),
        full_disk(0),
    ):
        write_scalars(writer)
        writer.close()
    assert threading.excepthook is hook
    write_scalars(writer)
    writer.close()
    assert "Traceback" not in capsys.readouterr().err


def test_a_thread_of_the_users_is_heard(tmp_path, monkeypatch):
    heard = []
    monkeypatch.setattr(threading, "excepthook", lambda said: heard.append(said.exc_value))
    error = OSError("of the user's own")

    def fail():
        raise error

    with failures_in_one_line(SimpleNamespace(iter=0), str(tmp_path)):
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
    assert heard == [error]


def test_other_errors_are_left_as_they_are(begun):
    def break_off():
        raise ConnectionResetError(104, "Connection reset by peer")

    with pytest.raises(ConnectionResetError) as caught:
        go_on(begun, break_off)
    assert not isinstance(caught.value, UserError)
