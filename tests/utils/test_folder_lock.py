"""A lock on a folder: one owner at a time, which may die at any moment."""

import errno
import fcntl
import logging
import multiprocessing
import os
import signal

import pytest

from vfnet.errors import UserError
from vfnet.utils.folder_lock import locked

fork = multiprocessing.get_context("fork")


def hold(folder, results, start=None, end=None):
    """In a process of its own: say whether the lock was had, and keep it until `end`."""
    if start is not None:
        start.wait()
    try:
        with locked(folder):
            results.put("had")
            if end is not None:
                end.wait()
    except UserError as error:
        results.put(str(error))


@pytest.fixture
def holder(tmp_path):
    """A process that has the lock on `tmp_path / "run"`."""
    results, end = fork.SimpleQueue(), fork.Event()
    process = fork.Process(target=hold, args=(str(tmp_path / "run"), results, None, end))
    process.start()
    assert results.get() == "had"
    process.end = end
    yield process
    process.kill()
    process.join()


def attempt(folder):
    results = fork.SimpleQueue()
    process = fork.Process(target=hold, args=(str(folder), results))
    process.start()
    process.join()
    return results.get()


def test_a_second_owner_is_told_who_is_the_first(holder, tmp_path):
    said = attempt(tmp_path / "run")
    assert f"into OUTPUT_DIR {tmp_path / 'run'}: process {holder.pid} on " in said
    holder.end.set()
    holder.join()
    assert attempt(tmp_path / "run") == "had"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_lock_ends_with_its_process(holder, tmp_path, how):
    os.kill(holder.pid, how)
    holder.join()
    assert attempt(tmp_path / "run") == "had"


def test_a_forked_process_does_not_keep_the_lock(tmp_path):
    """As a loader's worker that outlives a killed training."""
    end = fork.Event()
    with locked(str(tmp_path)):
        worker = fork.Process(target=end.wait)
        worker.start()
        assert "another run" in attempt(tmp_path)
    try:
        assert attempt(tmp_path) == "had"
    finally:
        end.set()
        worker.join()


def test_of_many_at_the_same_moment_one_has_it(tmp_path):
    for number in range(5):
        results, start, end = fork.SimpleQueue(), fork.Event(), fork.Event()
        arguments = (str(tmp_path / str(number)), results, start, end)
        processes = [fork.Process(target=hold, args=arguments) for _ in range(6)]
        for process in processes:
            process.start()
        start.set()
        said = [results.get() for _ in processes]
        end.set()
        for process in processes:
            process.join()
        assert said.count("had") == 1, said


def test_an_owner_that_removes_its_file_leaves_one_owner(tmp_path):
    """The next one may have opened the file that is removed; its lock would be on nothing."""
    for _ in range(8):
        results = fork.SimpleQueue()
        processes = [fork.Process(target=hold, args=(str(tmp_path), results)) for _ in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert "had" in (results.get(), results.get())
    assert not list(tmp_path.iterdir())


def test_the_folder_is_as_it_was(tmp_path):
    for folder in (tmp_path, tmp_path / "new"):
        before = folder.exists()
        with locked(str(folder)):
            assert folder.is_dir()
        assert folder.exists() is before and not list(tmp_path.iterdir())
    with locked(str(tmp_path / "new")):
        (tmp_path / "new" / "file").write_text("")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file" / "run", f"{tmp_path}/a\0b"):
        match = "OUTPUT_DIR .* cannot be written to"
        with pytest.raises(UserError, match=match), locked(str(folder)):
            pass


def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch, caplog):
    def refuse(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with caplog.at_level(logging.WARNING), locked(str(tmp_path)):
        pass
    assert "has no locks (No locks available)" in caplog.text
