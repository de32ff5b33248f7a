"""A file is whole or as it was."""

import io
import os
import signal

import pytest
import torch

from tests.full_disk import full_disk
from vfnet.errors import UserError
from vfnet.utils.files import (
    WriteError,
    remove_leftovers,
    write_aside,
    write_folder_aside,
    writing,
)


def test_the_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "x"
    with write_aside(path) as stream:
        stream.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), write_aside(path) as stream:
        stream.write(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folders_files_come_together_or_not_at_all(tmp_path):
    target = tmp_path / "new" / "folder"
    with write_folder_aside(target) as aside:
        (aside / "a.json").write_text("about a")
        (aside / "a.bin").write_text("1")
        assert [path.is_dir() for path in target.iterdir()] == [True]
    with pytest.raises(RuntimeError), write_folder_aside(target) as aside:
        (aside / "a.bin").write_text("2")
        raise RuntimeError
    assert {path.name: path.read_text() for path in target.iterdir()} == {
        "a.json": "about a",
        "a.bin": "1",
    }


def test_what_describes_the_other_files_comes_last(tmp_path, monkeypatch):
    moved = []
    replace = os.replace

    def record(source, destination):
        moved.append(os.path.basename(destination))
        replace(source, destination)

    monkeypatch.setattr(os, "replace", record)
    with write_folder_aside(tmp_path) as aside:
        for name in ("a.json", "b.xml", "c.bin"):
            (aside / name).write_text("")
    assert moved == ["b.xml", "c.bin", "a.json"]


@pytest.mark.parametrize("at", [0, 100, 5000, 900_000])
def test_a_full_disk_names_the_file_and_leaves_the_old_one(tmp_path, at):
    path = tmp_path / "x.pth"
    path.write_bytes(b"old")
    # torch raises its own errors on top of the system's.
    for write in (
        lambda stream: torch.save({"a": torch.zeros(250_000)}, stream),
        lambda stream: [stream.write(b"0" * 1000) for _ in range(1000)],
    ):
        with full_disk(at), pytest.raises(WriteError) as caught, write_aside(path) as stream:
            write(stream)
        assert str(caught.value) == f"{path} cannot be written: File too large"
        assert path.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [path]


def test_what_the_block_raises_for_other_files_passes(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, write_aside(tmp_path / "x"):
        (tmp_path / "other").read_text()
    assert type(caught.value) is FileNotFoundError


def test_a_folder_that_is_gone_is_said(tmp_path):
    match = "gone/x cannot be written: No such file"
    with pytest.raises(WriteError, match=match), write_aside(tmp_path / "gone" / "x"):
        pass


def test_errors_of_writing_are_named_others_pass(tmp_path):
    match = "^x cannot be written: No space"
    with pytest.raises(WriteError, match=match), writing("x"), open("/dev/full", "w") as file:
        file.write("a")
    match = f"^{tmp_path} cannot be written: Is a directory"
    with pytest.raises(WriteError, match=match), writing("x"):
        tmp_path.write_text("a")
    for error in (KeyError("a"), UserError("b")):
        with pytest.raises(type(error)) as caught, writing("x"):
            raise error
        assert caught.value is error


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path):
    kept = ["model_final.pth", ".hidden.tmp", "a.1.0123456789abcdef.tmp", "._x.jpg", ".run.lock"]
    for name in kept:
        (tmp_path / name).write_text("")
    child = os.fork()
    if child == 0:  # killed while it writes a file and a folder
        with write_folder_aside(tmp_path) as aside:
            (aside / "graph.onnx").write_text("half")
            with write_aside(tmp_path / "model_final.pth") as stream:
                stream.write(b"half")
                stream.flush()
                os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert len(list(tmp_path.iterdir())) == len(kept) + 2
    assert len(remove_leftovers(tmp_path)) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


def test_a_stream_may_be_written_in_pieces(tmp_path):
    with write_aside(tmp_path / "x") as stream:
        assert isinstance(stream, io.BufferedIOBase)
        stream.write(b"ab")
        stream.seek(0)
        stream.write(b"c")
    assert (tmp_path / "x").read_bytes() == b"cb"
