import copy
import json

import pytest

from vfnet.data.checks.coco_json import check_coco_content
from vfnet.data.datasets.coco_file import read_coco_file
from vfnet.errors import UserError


def check_coco_file(file):
    return check_coco_content(file, read_coco_file(file).content)


def test_a_good_file_gives_its_categories_sorted_by_id(make_coco):
    file, _ = make_coco(categories=((7, "plate"), (3, "cell")))
    assert list(check_coco_file(str(file)).items()) == [(3, "cell"), (7, "plate")]


def test_a_test_set_needs_no_annotations(make_coco):
    file, content = make_coco()
    del content["annotations"]
    file.write_text(json.dumps(content))
    assert check_coco_file(str(file)) == {3: "cell", 7: "plate"}


def spoil(part, index, **values):
    return lambda content: content[part][index].update(values)


BAD_ITEMS = {
    "image id twice": (
        spoil("images", 1, id=1),
        r"2 images with an id that another.*2\.png \(id 1",
    ),
    "image without a name": (spoil("images", 1, file_name=None), r"1 images without .* \(id 2"),
    "image of height 0": (spoil("images", 1, height=0), r"2\.png \(id 2, 64x0\)"),
    "image of width 6.5": (spoil("images", 1, width=6.5), r"positive integers: 2\.png"),
    "category id twice": (spoil("categories", 1, id=3), "2 categories with an id.*'plate'"),
    "category name twice": (spoil("categories", 1, name="cell"), "2 categories with a name.*7"),
    "category without id": (spoil("categories", 1, id="x"), "1 categories without.*'plate'"),
    "annotation id twice": (spoil("annotations", 1, id=1), "2 annotations with an id that another"),
    "annotation without id": (spoil("annotations", 1, id=None), "1 annotations without an integer"),
    "unknown category": (spoil("annotations", 1, category_id=5), "id 2 .*category_id 5"),
    "unknown image": (spoil("annotations", 1, image_id=99), "id 2 .image_id 99"),
    "three numbers": (spoil("annotations", 1, bbox=[1, 2, 3]), r"id 2 .*bbox \[1, 2, 3\]"),
    "NaN": (spoil("annotations", 1, bbox=[1, 2, float("nan"), 4]), "id 2 .*nan"),
    "400 digits": (spoil("annotations", 1, bbox=[1, 2, 10**400, 4]), "id 2 "),
    "ESC in a class": (spoil("categories", 1, name="a\x1b[2J"), "1 categories whose name holds"),
    "two lines in a class": (spoil("categories", 1, name="a\nb"), "1 categories whose name holds"),
    "half a character": (spoil("categories", 1, name="a\udce4"), "1 categories whose name holds"),
    "NUL in a name": (spoil("images", 1, file_name="a\0.png"), "1 images whose file_name holds"),
    "infinite": (spoil("annotations", 1, bbox=[1, 2, float("inf"), 4]), "id 2 .*inf"),
    "negative width": (spoil("annotations", 1, bbox=[1, 2, -3, 4]), "id 2 .*-3"),
    "text in a box": (spoil("annotations", 1, bbox=[1, 2, "3", 4]), "id 2 .*'3'"),
    "no box": (spoil("annotations", 1, bbox=None), "id 2 .*bbox None"),
    "ignore": (spoil("annotations", 1, ignore=1), "id 2 "),
    "ignore null": (spoil("annotations", 1, ignore=None), 'marked "ignore".*id 2 '),
    "iscrowd null": (spoil("annotations", 1, iscrowd=None), "neither 0 nor 1: None of id 2 "),
    "iscrowd text": (spoil("annotations", 1, iscrowd="no"), "neither 0 nor 1: 'no' of id 2 "),
    "iscrowd 2": (spoil("annotations", 1, iscrowd=2), "neither 0 nor 1: 2 of id 2 "),
}


@pytest.mark.parametrize("name", BAD_ITEMS)
def test_a_bad_item_is_named(make_coco, name):
    change, message = BAD_ITEMS[name]
    file, content = make_coco()
    content = copy.deepcopy(content)
    change(content)
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message) as caught:
        check_coco_file(str(file))
    assert str(caught.value).startswith(str(file))


def test_all_of_one_kind_are_counted_and_ten_named(make_coco):
    file, content = make_coco(sizes=((32, 32),) * 13)
    for annotation in content["annotations"]:
        annotation["category_id"] = 50
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match="13 annotations of a category.*id 10 .*; and 3 more"):
        check_coco_file(str(file))


@pytest.mark.parametrize("iscrowd", [0, 1, True])
def test_a_crowd_is_0_or_1_or_left_out(make_coco, iscrowd):
    file, content = make_coco()
    content["annotations"][0]["iscrowd"] = iscrowd
    del content["annotations"][1]["iscrowd"]
    file.write_text(json.dumps(content))
    assert check_coco_file(str(file)) == {3: "cell", 7: "plate"}
