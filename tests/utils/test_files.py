"""A file is whole or as it was."""

import os

import pytest

from vfnet.utils.files import write_aside, write_folder_aside


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
