"""Folders of runs that were damaged: what `--resume` continues from, or why it refuses."""

import logging
import os

import pytest
import torch
from detectron2.utils import comm

from vfnet.checkpoint.continuable import fingerprint
from vfnet.engine import Trainer, checkpoint_to_continue
from vfnet.errors import UserError

from .damages import DAMAGES, TAGS, cut, flip, replace
from .tiny import picture, tiny_config, train_on

NEWEST, OLDER, OLDEST = (f"model_000000{iteration}.pth" for iteration in (2, 1, 0))


@pytest.fixture(scope="module")
def three_iterations(tmp_path_factory):
    """The folder of a run that was killed after its third iteration; a checkpoint of each."""
    folder = tmp_path_factory.mktemp("three")
    cfg = tiny_config(folder, "SOLVER.CHECKPOINT_PERIOD", "1")
    train_on(cfg, *[[picture(seed)] for seed in (1, 2, 3)])
    (folder / "model_final.pth").unlink()
    (folder / "last_checkpoint").write_text(NEWEST)
    best = torch.load(folder / OLDER, weights_only=True)["model"]
    torch.save({"model": best, "iteration": 2}, folder / "model_best.pth")
    return folder


@pytest.fixture
def linked(three_iterations, tmp_path):
    """Make a folder of its own with the same files, linked."""

    def link(name):
        (tmp_path / name).mkdir()
        for path in three_iterations.glob("*"):
            if path.suffix == ".pth" or path.name == "last_checkpoint":
                os.link(path, tmp_path / name / path.name)
        return tmp_path / name

    return link


@pytest.fixture
def folder(linked):
    return linked("run")


@pytest.fixture(scope="module")
def trainer(tmp_path_factory):
    return Trainer(tiny_config(tmp_path_factory.mktemp("trainer"), "SOLVER.MAX_ITER", "9"))


@pytest.fixture
def resume(trainer):
    """Continue in a folder; return the iteration that would be the first."""

    def run(folder):
        trainer.cfg.OUTPUT_DIR = str(folder)
        trainer.start_iter = 0
        trainer.resume_or_load(resume=True)
        return trainer.start_iter

    return run


@pytest.mark.soak
def test_the_newest_whole_checkpoint_is_continued(linked, resume, trainer, caplog, figure):
    for number, (kind, damage) in enumerate(DAMAGES.items()):
        folder = linked(f"run{number}")
        damage(folder / NEWEST)
        caplog.clear()
        assert resume(folder) == 2, kind
        (said,) = [r.message for r in caplog.records if "--resume goes on" in r.message]
        assert NEWEST in said, kind
        assert said.endswith(f"--resume goes on with {folder / OLDER}, the newest whole checkpoint")
        assert_continues(trainer, torch.load(folder / OLDER, weights_only=True))
    for number, (kind, content) in enumerate(TAGS.items()):
        folder = linked(f"tag{number}")
        replace(folder / "last_checkpoint", content)
        caplog.clear()
        assert resume(folder) == 3, kind
        assert f"goes on with {folder / NEWEST}, the newest whole checkpoint" in caplog.text, kind
    states = len(DAMAGES) + len(TAGS)
    figure("damaged folders of a run", states, states)


def assert_continues(trainer, content):
    for name, value in trainer.checkpointer.model.state_dict().items():
        assert torch.equal(value, content["model"][name])
    there = content["trainer"]["_trainer"]["optimizer"]["state"]
    for number, state in trainer.optimizer.state_dict()["state"].items():
        assert torch.equal(state["momentum_buffer"], there[number]["momentum_buffer"])


def test_without_last_checkpoint_the_newest_is_found(folder, resume, caplog):
    (folder / "last_checkpoint").unlink()
    with caplog.at_level(logging.WARNING):
        assert resume(folder) == 3
    assert f"{folder / 'last_checkpoint'} does not exist: --resume goes on with" in caplog.text


def test_the_final_checkpoint_has_its_place_by_its_iteration(folder, resume):
    (folder / "last_checkpoint").unlink()
    os.link(folder / OLDEST, folder / "model_final.pth")
    assert resume(folder) == 3
    (folder / "model_final.pth").unlink()
    os.rename(folder / NEWEST, folder / "model_final.pth")
    assert resume(folder) == 3
    cut(0.5)(folder / "model_final.pth")
    assert resume(folder) == 2


def test_an_older_one_that_is_named_is_continued_without_a_word(folder, resume, caplog):
    replace(folder / "last_checkpoint", f"{OLDER}\n".encode())
    with caplog.at_level(logging.WARNING):
        assert resume(folder) == 2
    assert "goes on with" not in caplog.text


def test_two_damaged_ones_are_passed_over(folder, resume, caplog):
    cut(0.5)(folder / NEWEST)
    flip(0.5)(folder / OLDER)
    with caplog.at_level(logging.WARNING):
        assert resume(folder) == 1
    assert caplog.text.count(f"goes on with {folder / OLDEST}") == 2


def test_where_none_is_whole_it_is_refused(folder, resume, trainer):
    """Never begun anew, which would overwrite them."""
    for name in (NEWEST, OLDER, OLDEST):
        cut(0.7)(folder / name)
    for named in (NEWEST.encode(), b"model_best.pth", None):
        (folder / "last_checkpoint").unlink()
        if named:
            (folder / "last_checkpoint").write_bytes(named)
        else:
            (folder / "last_checkpoint").symlink_to(folder / "gone")
        with pytest.raises(UserError, match="holds no checkpoint to go on with: .*truncated"):
            resume(folder)


def test_what_an_earlier_run_has_left_in_the_folder_is_never_continued(folder, resume):
    """It came further than this one, whose newest checkpoint is damaged."""
    replace(folder / "last_checkpoint", OLDER.encode())
    os.link(folder / NEWEST, folder / "model_final.pth")
    cut(0.5)(folder / OLDER)
    assert resume(folder) == 1
    cut(0.5)(folder / OLDEST)
    with pytest.raises(UserError, match="holds no checkpoint to go on with: .*truncated"):
        resume(folder)


def test_weights_alone_are_never_continued(folder, resume):
    for name in (NEWEST, OLDER, OLDEST):
        (folder / name).unlink()
    replace(folder / "last_checkpoint", b"model_best.pth")
    with pytest.raises(UserError, match="model_best.pth holds weights alone"):
        resume(folder)


def test_the_state_of_another_optimizer_is_refused(folder, resume):
    def without_a_parameter(content):
        groups = content["trainer"]["_trainer"]["optimizer"]["param_groups"]
        groups[0]["params"] = groups[0]["params"][1:]
        return content

    content = without_a_parameter(torch.load(folder / NEWEST, weights_only=True))
    (folder / NEWEST).unlink()
    torch.save(content, folder / NEWEST)
    with pytest.raises(UserError, match="the checkpoint's optimizer is not the one of this config"):
        resume(folder)


def test_a_machine_without_the_same_file_is_told_so(folder, monkeypatch):
    """Machines may have disks of their own: the first process decides, and all have to follow."""
    newest = str(folder / NEWEST)
    expected = fingerprint(newest)
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    answers = []
    monkeypatch.setattr("vfnet.engine.resume.on_main_process", lambda function: answers.pop(0))

    def go_on():
        answers[:] = [newest, expected]
        return checkpoint_to_continue(str(folder), required=True)

    assert go_on() == newest
    flip(0.5)(folder / NEWEST)
    with pytest.raises(UserError, match="cannot go on with .* first process does: .* checksum of"):
        go_on()
    (folder / NEWEST).unlink()
    os.link(folder / OLDER, folder / NEWEST)
    with pytest.raises(UserError, match="it is another file. Let all machines share OUTPUT_DIR"):
        go_on()
    (folder / NEWEST).unlink()
    with pytest.raises(UserError, match="there is no checkpoint at"):
        go_on()
