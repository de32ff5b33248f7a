import copy
import json
import os

import pytest

from vfnet.data.checks.coco_json import check_coco_file, check_evaluable
from vfnet.errors import UserError


def test_a_good_file_gives_its_categories_sorted_by_id(make_coco):
    file, _ = make_coco(categories=((7, "plate"), (3, "cell")))
    assert list(check_coco_file(str(file)).items()) == [(3, "cell"), (7, "plate")]


def test_a_test_set_needs_no_annotations(make_coco):
    file, content = make_coco()
    del content["annotations"]
    file.write_text(json.dumps(content))
    assert check_coco_file(str(file)) == {3: "cell", 7: "plate"}


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="nothing.json is not there"):
        check_coco_file(str(tmp_path / "nothing.json"))


def test_a_pipe_is_no_json_file(tmp_path):
    os.mkfifo(tmp_path / "data.json")
    with pytest.raises(UserError, match=r"data\.json is no regular file"):
        check_coco_file(str(tmp_path / "data.json"))


def test_a_truncated_file_is_named(make_coco):
    file, _ = make_coco()
    file.write_text(file.read_text()[:-20])
    with pytest.raises(UserError, match="data.json is not a whole json file"):
        check_coco_file(str(file))


def test_a_file_that_is_not_text_is_named(tmp_path):
    file = tmp_path / "binary.json"
    file.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(UserError, match="binary.json is not a whole json file"):
        check_coco_file(str(file))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], 'has no "images"'),
        ({"images": []}, 'has no "categories"'),
        ({"images": {}, "categories": []}, '"images" has to be a list'),
        ({"images": [3], "categories": []}, '"images" has to be a list'),
        ({"images": [], "categories": [{"id": 1, "name": "a"}]}, '"images" is empty'),
    ],
)
def test_another_structure_is_refused(tmp_path, content, message):
    file = tmp_path / "other.json"
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        check_coco_file(str(file))


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


EVALUATION_LACKS = {
    "no area": (lambda a: a.pop("area"), r'lack an "area".*id 7 \(a.png, area None'),
    "area null": (lambda a: a.update(area=None), 'lack an "area".*id 7 '),
    "area text": (lambda a: a.update(area="9"), 'lack an "area".*id 7 '),
    "area NaN": (lambda a: a.update(area=float("nan")), 'lack an "area".*id 7 '),
    "area negative": (lambda a: a.update(area=-1.0), 'lack an "area".*id 7 '),
    "no iscrowd": (lambda a: a.pop("iscrowd"), 'lack "iscrowd".*id 7 '),
    "id 0": (lambda a: a.update(id=0), "lack an id other than 0.*id 0 "),
}


def records_to_evaluate():
    annotations = [{"id": id_, "area": 6.0, "iscrowd": 0} for id_ in (6, 7)]
    return [{"file_name": "a.png", "annotations": annotations}]


@pytest.mark.parametrize("name", EVALUATION_LACKS)
def test_what_evaluation_lacks_is_named(name):
    change, message = EVALUATION_LACKS[name]
    records = records_to_evaluate()
    change(records[0]["annotations"][1])
    with pytest.raises(UserError, match=f"^toy: .*{message}.* out of DATASETS.TEST"):
        check_evaluable("toy", records)


def test_what_evaluation_needs_passes():
    check_evaluable("toy", records_to_evaluate())


@pytest.mark.parametrize("change", [lambda a: a.pop("area"), lambda a: a.update(id=0)])
def test_what_only_evaluation_needs_is_no_matter_of_the_file(make_coco, caplog, change):
    file, content = make_coco()
    change(content["annotations"][1])
    file.write_text(json.dumps(content))
    assert check_coco_file(str(file)) == {3: "cell", 7: "plate"}
    assert not caplog.records
