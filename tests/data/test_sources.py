"""vfnet.data.sources: what files, folders and patterns name."""

import os

import pytest
from PIL import Image

from vfnet.data.file_names import is_picture
from vfnet.data.sources import expand_sources, find_files, read_pictures
from vfnet.errors import UserError


@pytest.fixture
def folder(tmp_path):
    for name in ("a.png", "b.JPG", "deep/c.Tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    for name in ("._a.png", "notes.txt", "clip.mp4"):
        (tmp_path / name).write_text("no picture")
    return tmp_path


def test_a_name_that_no_file_can_have_is_found_nowhere():
    for name in ("x" * 5000, "a\0b"):
        with pytest.raises(UserError, match="found nothing at"):
            find_files([name])


def test_inputs_are_files_folders_and_patterns_each_file_once(folder):
    a, b, c = folder / "a.png", folder / "b.JPG", folder / "deep" / "c.Tif"
    assert find_files([folder]) == [a, b]
    assert find_files([f"{folder}/*.JPG", folder, a]) == [b, a]
    assert find_files([f"{folder}/**/*.Tif"]) == [c]
    assert find_files([folder / "clip.mp4", folder / "deep"]) == [folder / "clip.mp4", c]


def test_sources_without_end_are_taken_one_by_one(folder):
    def endless():
        while True:
            yield folder

    taken = expand_sources(endless())
    assert [next(taken).name for _ in range(3)] == ["a.png", "b.JPG", "a.png"]


@pytest.mark.parametrize(
    "name, message",
    [
        ("missing.png", r"found nothing at .*missing\.png"),
        ("*.gif", r"found nothing at .*\*\.gif"),
        ("none", "expected pictures .* in .*none"),
        ("pipe.png", "pipe.png is no regular file"),
        ("x\x1b[31m\nerror: y", r"x\\x1b\[31m\\nerror: y"),
    ],
)
def test_what_names_nothing_is_refused_in_one_line(folder, name, message):
    (folder / "none").mkdir()
    os.mkfifo(folder / "pipe.png")
    with pytest.raises(UserError, match=message) as caught:
        find_files([folder / name])
    assert "\n" not in str(caught.value)


def test_a_video_that_is_none_is_named(folder):
    with pytest.raises(UserError, match=r"video that OpenCV can read: .*clip\.mp4"):
        list(read_pictures([folder / "clip.mp4"]))


def test_hidden_files_are_no_pictures_and_endings_have_any_case():
    names = ["a.png", "a.PNG", "a.Tiff", "._a.png", ".png", "a.mp4", "a"]
    assert [is_picture(name) for name in names] == [True] * 3 + [False] * 4
