import copy

import pytest
from detectron2.data import DatasetCatalog
from PIL import Image

import vfnet
from vfnet.data import check_own_data, register_coco_format
from vfnet.errors import UserError


@pytest.fixture
def loaded(make_coco):
    """Two data sets of four pictures of their own; the pictures of one are larger."""
    files = {name: make_coco(name, sizes=((side, 48),) * 4)[0] for name, side in SETS.items()}
    cfg = vfnet.get_cfg()
    cfg.DATASETS.COCO_FORMAT = [[name, str(f), str(f.parent)] for name, f in files.items()]
    register_coco_format(cfg)
    return {name: copy.deepcopy(DatasetCatalog.get(name)) for name in files}


SETS = {"learned": 64, "scored": 80}


def check(loaded, train=("learned",), test=("scored",), detections=100, strict=False):
    return check_own_data(loaded, train, test, detections, strict)


def in_shares(loaded, name):
    for record in loaded[name]:
        record["annotations"][0]["bbox"] = [0.1, 0.2, 0.3, 0.4]


def one_picture_twice(loaded, name):
    loaded[name][1]["file_name"] = loaded[name][0]["file_name"]


def one_picture_in_both(loaded, name):
    loaded["scored"][2] = copy.deepcopy(loaded["learned"][2])


MISTAKES = {
    "shares to learn": (in_shares, "learned", "learned: 4 of 4 boxes are at most a pixel"),
    "shares to score": (in_shares, "scored", "scored: 4 of 4 boxes are at most a pixel"),
    "twice to learn": (one_picture_twice, "learned", "learned: 1 pictures have more than one"),
    "twice to score": (one_picture_twice, "scored", "scored: 1 pictures have more than one"),
    "in both": (one_picture_in_both, "", "scored: 1 of 4 pictures are trained on as well"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_an_error_where_strict(loaded, mistake):
    change, name, said = MISTAKES[mistake]
    change(loaded, name)
    (line,) = check(loaded)
    assert line.startswith(said)
    with pytest.raises(UserError, match=f"^DATASETS.STRICT: {said}"):
        check(loaded, strict=True)


def test_good_data_needs_no_word(loaded):
    assert check(loaded, strict=True) == []


def test_turned_pictures_are_pointed_out(loaded):
    exif = Image.Exif()
    exif[0x0112] = 3
    file = loaded["learned"][0]["file_name"]
    Image.open(file).save(file, exif=exif)
    (line,) = check(loaded, strict=True)
    assert line.startswith("learned: 1 pictures are stored turned") and "1.png" in line


def test_one_set_in_two_training_sets_has_its_pictures_twice(loaded):
    loaded["again"] = loaded["learned"]
    (line,) = check(loaded, train=("learned", "again"))
    assert line.startswith("learned, again: 4 pictures have more than one record")


def test_a_set_that_is_trained_and_tested_on_is_named_once(loaded):
    one_picture_twice(loaded, "learned")
    lines = check({"learned": loaded["learned"]}, test=("learned",))
    assert [line.partition(", by")[0] for line in lines] == [
        "learned: 1 pictures have more than one record",
        "learned: 3 of 3 pictures are trained on as well",
    ]


def test_evaluation_alone_asks_nothing_of_what_is_trained_on(loaded):
    del loaded["learned"]
    assert check(loaded, train=(), strict=True) == []


def test_crowds_and_many_objects_are_pointed_out_even_where_strict(loaded):
    loaded["scored"][0]["annotations"] *= 2
    for record in loaded["learned"]:
        record["annotations"][0]["iscrowd"] = 1
    many, crowds = check(loaded, detections=1, strict=True)
    assert many.startswith("scored: 1 of 4 pictures hold more objects") and "1.png" in many
    assert crowds.startswith("learned: 4 of 4 boxes are crowds")
