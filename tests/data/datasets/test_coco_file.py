import json
import os

import pytest

from vfnet.data.datasets.coco_file import (
    complete,
    empty_parents,
    read_coco_file,
    without_categories,
)
from vfnet.errors import UserError

CATEGORIES = [{"id": 1, "name": "zażółć"}]


def content_of(*annotations, categories=CATEGORIES):
    images = [{"id": 4, "file_name": "a.png", "width": 9, "height": 9, "license": 1}]
    return {"images": images, "annotations": list(annotations), "categories": list(categories)}


def annotation(**changes):
    whole = {"id": 1, "image_id": 4, "category_id": 1, "bbox": [1, 2, 3, 4.5], "segmentation": [[]]}
    return {key: value for key, value in {**whole, **changes}.items() if value is not None}


ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_encodings_that_editors_save_in_are_read(tmp_path, encoding):
    file = tmp_path / "a.json"
    file.write_text(json.dumps(content_of(), ensure_ascii=False), encoding=encoding)
    content, is_plain = read_coco_file(str(file))
    assert content == content_of() and not is_plain


def test_ascii_is_what_pycocotools_reads_anywhere(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(content_of()))
    assert read_coco_file(str(tmp_path / "a.json")).is_plain


def test_another_encoding_is_named_with_the_place(tmp_path):
    (tmp_path / "a.json").write_bytes(b'{"images": "\xe4"}')
    with pytest.raises(UserError, match="a.json is no text in utf-8 .*byte 12.*save it as UTF-8"):
        read_coco_file(str(tmp_path / "a.json"))


@pytest.mark.parametrize("text", ["[" * 10**6, '{"info": ' + "[" * 10**5 + "]" * 10**5 + "}"])
def test_depth_is_an_error(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match="a.json is nested too deeply"):
        read_coco_file(str(tmp_path / "a.json"))


def test_a_number_of_thousands_of_digits_is_no_damage(tmp_path):
    (tmp_path / "a.json").write_text(f'{{"images": {"9" * 5000}}}')
    with pytest.raises(UserError, match="a.json holds what cannot be used: .*4300 digits"):
        read_coco_file(str(tmp_path / "a.json"))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="nothing.json is not there"):
        read_coco_file(str(tmp_path / "nothing.json"))


def test_a_pipe_is_no_json_file(tmp_path):
    os.mkfifo(tmp_path / "data.json")
    with pytest.raises(UserError, match=r"data\.json is no regular file"):
        read_coco_file(str(tmp_path / "data.json"))


def test_a_truncated_file_is_named(make_coco):
    file, _ = make_coco()
    file.write_text(file.read_text()[:-20])
    with pytest.raises(UserError, match="data.json is not a whole json file"):
        read_coco_file(str(file))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], 'has no "images"'),
        ({"images": []}, 'has no "categories"'),
        ({"images": {}, "categories": []}, '"images" has to be a list'),
        ({"images": [3], "categories": []}, '"images" has to be a list'),
    ],
)
def test_another_structure_is_refused(tmp_path, content, message):
    file = tmp_path / "other.json"
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        read_coco_file(str(file))


@pytest.mark.parametrize("ids", [(0, 1), (-2, 5), (3, 2**127)])
def test_ids_that_the_evaluation_does_not_take_are_numbered_anew(ids):
    completed = complete(content_of(*(annotation(id=id_) for id_ in ids)))
    assert [a["id"] for a in completed.content["annotations"]] == [1, 2]
    assert completed.is_changed


def test_ids_that_it_takes_stay():
    given = [annotation(id=id_, area=1, iscrowd=0) for id_ in (7, 2**63 - 1)]
    completed = complete(content_of(*given))
    assert [a["id"] for a in completed.content["annotations"]] == [7, 2**63 - 1]
    assert completed.repairs == [] and not completed.is_changed


@pytest.mark.parametrize("area", [None, "9", float("nan"), -1.0, 10**400])
def test_an_area_that_is_none_becomes_that_of_the_box(area):
    content, repairs, _ = complete(content_of(annotation(area=area, iscrowd=0)))
    assert content["annotations"][0]["area"] == 3 * 4.5
    assert repairs == ['1 annotations have no usable "area": taken as width x height of the box']


def test_an_absent_iscrowd_is_no_crowd():
    content, (line,), _ = complete(content_of(annotation(area=0)))
    assert content["annotations"][0]["iscrowd"] == 0 and content["annotations"][0]["area"] == 0
    assert line.startswith('1 annotations have no usable "iscrowd": taken as 0')


def test_nothing_is_kept_but_what_boxes_need():
    content, *_ = complete(content_of(annotation(area=1, iscrowd=1)), {"a.png": "b/a.png"})
    assert content["images"] == [{"id": 4, "file_name": "b/a.png", "width": 9, "height": 9}]
    assert set(content["annotations"][0]) == {
        *("id", "image_id", "category_id", "bbox", "area", "iscrowd")
    }


def test_a_test_set_stays_one():
    content = content_of()
    del content["annotations"]
    assert "annotations" not in complete(content).content


ROOT = {"id": 0, "name": "cells", "supercategory": "none"}
CHILD = {"id": 1, "name": "cell", "supercategory": "cells"}


def test_a_root_without_boxes_is_a_parent_to_leave_out():
    content = content_of(annotation(), categories=[ROOT, CHILD])
    assert empty_parents([content]) == {0}
    assert without_categories(content, {0})["categories"] == [CHILD]


@pytest.mark.parametrize(
    "categories",
    [
        [{**ROOT, "supercategory": "cells"}],  # its own parent, as COCO's person
        [ROOT, {**CHILD, "supercategory": "other"}],  # a class that happens to have no box
        [{**CHILD, "id": 0, "name": "cells"}, {**CHILD, "id": 2, "supercategory": "none"}],
    ],
)
def test_other_classes_without_boxes_stay(categories):
    assert empty_parents([content_of(categories=categories)]) == set()


def test_ids_and_names_that_cannot_be_are_left_to_the_check_of_the_content():
    broken = [{**CHILD, "id": [1]}, {**CHILD, "name": ["x"], "supercategory": {}}, {}]
    content = content_of(annotation(category_id=[0]), categories=[ROOT, CHILD, *broken])
    assert empty_parents([content]) == {0}


def test_a_parent_with_a_box_in_any_file_of_the_run_stays():
    used = content_of(annotation(category_id=0), categories=[ROOT, CHILD])
    unused = content_of(annotation(), categories=[ROOT, CHILD])
    assert empty_parents([unused, used]) == set() and empty_parents([unused]) == {0}


def test_a_parent_that_the_config_names_stays_unless_two_have_the_name():
    assert empty_parents([content_of(categories=[ROOT, CHILD])], ["cells", "cell"]) == set()
    doubled = [{**ROOT, "name": "cell"}, {**CHILD, "supercategory": "cell"}]
    assert empty_parents([content_of(annotation(), categories=doubled)], ["cell"]) == {0}
