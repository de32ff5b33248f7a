import os

import pytest

from vfnet.data.datasets.picture_names import find_pictures


@pytest.fixture
def root(tmp_path):
    for name in ("a.png", "sub/b c.png", "50%25.png", "deep/er/x.png", "other/x.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return str(tmp_path)


FOUND = {
    "images\\a.png": "a.png",  # written on Windows
    "C:\\data\\images\\sub\\b c.png": "sub/b c.png",
    "/home/somebody/images/a.png": "a.png",
    "images/default/sub/b c.png": "sub/b c.png",  # CVAT: with the task's folders
    "sub/b%20c.png": "sub/b c.png",  # Label Studio
    "/data/local-files/?d=images%5Csub%5Cb%20c.png": "sub/b c.png",
    "deep\\er\\x.png": "deep/er/x.png",
}


@pytest.mark.parametrize("name", FOUND)
def test_the_longest_end_that_is_there_counts(root, name):
    assert find_pictures(root, [name]) == {name: FOUND[name]}


def test_names_that_lead_to_a_picture_stay_whatever_they_look_like(root):
    absolute = os.path.join(root, "a.png")
    assert find_pictures(root, ["a.png", "50%25.png", absolute]) == {}


def test_what_is_nowhere_is_left_to_the_check(root, tmp_path):
    assert find_pictures(root, ["images/z.png", "", "x" * 300, "a\0.png"]) == {}
    assert find_pictures(str(tmp_path / "gone"), ["a.png"]) == {}


def test_two_names_never_become_one_picture(root):
    assert find_pictures(root, ["one/a.png", "two/a.png"]) == {}
    assert find_pictures(root, ["a.png", "two/a.png"]) == {}


def test_no_way_leads_out_of_the_folder(root):
    assert find_pictures(os.path.join(root, "sub"), ["images\\..\\..\\a.png"]) == {}
