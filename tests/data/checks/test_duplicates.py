import os
import shutil

import numpy as np
import pytest
from PIL import Image

from vfnet.data.checks.duplicates import describe_repeated, describe_shared, picture_keys


@pytest.fixture
def picture(tmp_path):
    """A function that writes an uncompressed picture, all of one size; it returns its path."""

    def write(name, **pixels):
        image = np.zeros((120, 100, 3), np.uint8)
        for corner, value in pixels.items():
            image[{"top": 0, "bottom": -1}[corner]] = value
        Image.fromarray(image).save(tmp_path / name)
        return str(tmp_path / name)

    return write


def same(*names):
    keys = picture_keys(names)
    return [[keys[a] == keys[b] for b in names] for a in names]


def test_links_and_spellings_are_one_picture(picture, tmp_path):
    file = picture("a.bmp", top=9)
    os.symlink(file, tmp_path / "link.bmp")
    spelled = str(tmp_path / "." / "a.bmp").replace("a.bmp", "./a.bmp")
    assert np.all(same(file, str(tmp_path / "link.bmp"), spelled))


def test_copies_are_one_picture_and_others_of_their_size_are_not(picture, tmp_path):
    files = [picture("a.bmp", top=9), picture("b.bmp", bottom=9), str(tmp_path / "copy.bmp")]
    shutil.copy(files[0], files[2])
    assert len({os.path.getsize(file) for file in files}) == 1
    assert same(*files) == [[True, False, True], [False, True, False], [True, False, True]]


def test_files_of_different_sizes_are_not_read(picture, monkeypatch):
    files = [picture("a.png", top=9), picture("b.png", top=9, bottom=7)]
    monkeypatch.setattr("builtins.open", lambda *arguments: pytest.fail("read"))
    assert same(*files) == [[True, False], [False, True]]


def test_names_that_are_no_local_files_are_told_by_name():
    assert same("s3://a.png", "s3://b.png") == [[True, False], [False, True]]


def record(file_name, image_id):
    return {"file_name": file_name, "image_id": image_id}


def test_repeated_pictures_are_counted_and_named(picture, tmp_path):
    files = [picture("a.png", top=1), picture("b.png", top=2), str(tmp_path / "copy.png")]
    shutil.copy(files[1], files[2])
    records = [record(name, i) for i, name in enumerate([files[0], files[1], files[0], files[2]])]
    text = describe_repeated(records, picture_keys(files))
    assert text.startswith("2 pictures have more than one record")
    assert f"{files[0]} (id 0) = {files[0]} (id 2); {files[1]} (id 1) = {files[2]} (id 3)." in text
    assert describe_repeated(records[:2], picture_keys(files)) == ""


def test_pictures_that_are_trained_and_tested_on_are_counted_and_named(picture):
    files = [picture(f"{i}.png", top=i + 1) for i in range(4)]
    records = [record(name, i) for i, name in enumerate(files)]
    text = describe_shared(records[1:], records[:2], picture_keys(files))
    assert text.startswith("1 of 3 pictures are trained on") and text.endswith(f": {files[1]}")
    assert describe_shared(records[2:], records[:2], picture_keys(files)) == ""
