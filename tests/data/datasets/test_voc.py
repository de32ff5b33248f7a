import itertools
import logging
import os

import numpy as np
import pytest
from PIL import Image

from vfnet.data.datasets.to_coco import LabelledImage, to_coco
from vfnet.data.datasets.voc import read_voc
from vfnet.errors import UserError

OBJECT = """<object><name>{}</name><difficult>{}</difficult><bndbox><xmin>{}</xmin><ymin>{}</ymin>
<xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "JPEGImages").mkdir()
    return tmp_path


def add(folder, stem, *objects, size=(60, 40), said=None, picture=True, filename=None):
    """Write one picture and its xml; an object is (name, xmin, ymin, xmax, ymax[, difficult])."""
    if picture:
        pixels = np.zeros((size[1], size[0], 3), np.uint8)
        Image.fromarray(pixels).save(folder / "JPEGImages" / f"{filename or stem + '.jpg'}")
    width, height = said or size
    (folder / "Annotations" / f"{stem}.xml").write_text(
        f"<annotation><filename>{filename or 'stale.jpg'}</filename><size><width>{width}</width>"
        f"<height>{height}</height></size>"
        + "".join(OBJECT.format(o[0], o[5] if len(o) > 5 else 0, *o[1:5]) for o in objects)
        + "</annotation>"
    )


def read(folder):
    return read_voc(folder / "Annotations", folder / "JPEGImages")


def test_boxes_ids_and_classes_by_hand(folder):
    add(folder, "b", ("cat", 1, 2, 11, 22), ("ant", 5, 5, 60, 40))
    add(folder, "a", ("cat", 3, 3, 4.5, 7))
    assert to_coco(read(folder)) == {
        "images": [
            {"id": 1, "file_name": "a.jpg", "width": 60, "height": 40},
            {"id": 2, "file_name": "b.jpg", "width": 60, "height": 40},
        ],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 2, "bbox": [3, 3, 1.5, 4], "area": 6.0}
            | {"iscrowd": 0},
            {"id": 2, "image_id": 2, "category_id": 2, "bbox": [1, 2, 10, 20], "area": 200.0}
            | {"iscrowd": 0},
            {"id": 3, "image_id": 2, "category_id": 1, "bbox": [5, 5, 55, 35], "area": 1925.0}
            | {"iscrowd": 0},
        ],
        "categories": [{"id": 1, "name": "ant"}, {"id": 2, "name": "cat"}],
    }


def test_classes_can_be_ordered(folder):
    add(folder, "a", ("cat", 1, 2, 3, 4))
    content = to_coco(read(folder), classes=["dog", "cat"])
    assert [c["name"] for c in content["categories"]] == ["dog", "cat"]
    assert content["annotations"][0]["category_id"] == 2


@pytest.mark.parametrize(
    ("difficult", "crowds"), [("keep", [0, 0]), ("crowd", [0, 1]), ("drop", [0])]
)
def test_difficult_objects(folder, difficult, crowds):
    add(folder, "a", ("cat", 1, 2, 3, 4), ("cat", 5, 5, 9, 9, 1))
    content = to_coco(read(folder), difficult=difficult)
    assert [a["iscrowd"] for a in content["annotations"]] == crowds


def test_boxes_without_area_are_named_and_left_out(folder, caplog):
    add(folder, "a", ("cat", 1, 2, 1, 4), ("cat", 5, 5, 9, 9), ("cat", 7, 8, 9, 8))
    with caplog.at_level(logging.WARNING):
        content = to_coco(read(folder))
    assert [a["bbox"] for a in content["annotations"]] == [[5, 5, 4, 4]]
    assert "2 boxes without area left out: a.jpg cat [1.0, 2.0, 1.0, 4.0]" in caplog.text


def test_a_size_of_zero_comes_from_the_picture(folder):
    add(folder, "a", said=(0, 0))
    assert read(folder) == [LabelledImage("a.jpg", 60, 40, [])]


def test_filename_is_used_where_the_xmls_name_has_no_picture(folder):
    add(folder, "a", filename="picture one.png")
    assert read(folder)[0].file_name == "picture one.png"


def test_pictures_without_xml_are_named(folder, caplog):
    add(folder, "a")
    Image.new("RGB", (5, 5)).save(folder / "JPEGImages" / "lonely.png")
    with caplog.at_level(logging.WARNING):
        assert len(read(folder)) == 1
    assert "1 pictures without an xml left out: lonely.png" in caplog.text


BAD = {
    "another size": ({"said": (40, 60)}, r"bad\.xml says 40x60, its picture is 60x40"),
    "no picture": ({"picture": False}, r"bad\.xml has no picture in"),
    "picture of good.xml": (
        {"picture": False, "filename": "good.jpg"},
        r"good\.xml: another xml has the picture good\.jpg too",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_an_xml_that_does_not_fit_its_picture_is_named(folder, name):
    arguments, message = BAD[name]
    add(folder, "good")
    add(folder, "bad", **arguments)
    with pytest.raises(UserError, match=f"1 of 2 xml files .*{message}"):
        read(folder)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (("cat", 1, 2, "x", 4), "has 'x' where <xmax> has to be a finite number"),
        (("cat", 1, "nan", 3, 4), "has 'nan' where <ymin>"),
        (("cat", 9, 2, 3, 4), "has a box of negative size, cat"),
        (("", 1, 2, 3, 4), "has an object without a name"),
        (("cat", 1, 2, 3, ""), "has None where <ymax>"),
    ],
)
def test_a_bad_object_is_named(folder, item, message):
    add(folder, "a", item)
    with pytest.raises(UserError, match=rf"a\.xml {message}"):
        read(folder)


@pytest.mark.parametrize(
    "text",
    [
        "<annotation><object>",
        '<?xml version="1.0" encoding="big5"?><annotation/>',
        '<?xml version="1.0" encoding="none"?><annotation/>',
        # A billion laughs.
        "<!DOCTYPE a [<!ENTITY a 'xxxxxxxxxx'>"
        + "".join(f"<!ENTITY {b} '{f'&{a};' * 10}'>" for a, b in itertools.pairwise("abcdefghijk"))
        + "]><annotation>&k;</annotation>",
    ],
)
def test_malformed_xml_is_named(folder, text):
    add(folder, "a")
    (folder / "Annotations" / "broken.xml").write_text(text)
    with pytest.raises(UserError, match=r"1 of 2 xml files .*broken\.xml is not whole xml"):
        read(folder)


def test_an_object_without_box_is_named(folder):
    add(folder, "a")
    (folder / "Annotations" / "a.xml").write_text(
        "<annotation><object><name>cat</name></object></annotation>"
    )
    with pytest.raises(UserError, match=r"a\.xml has an object without a box, cat"):
        read(folder)


def test_an_empty_folder_is_an_error(folder):
    with pytest.raises(UserError, match="Annotations holds no xml file"):
        read(folder)


def test_an_unknown_class_is_named_with_its_image(folder):
    add(folder, "a", ("cat", 1, 2, 3, 4))
    with pytest.raises(UserError, match=r"1 classes are not among dog: cat \(in a\.jpg\)"):
        to_coco(read(folder), classes=["dog"])


@pytest.mark.parametrize("classes", [["cat", "cat"], []])
def test_classes_have_to_differ(folder, classes):
    add(folder, "a", ("cat", 1, 2, 3, 4))
    with pytest.raises(UserError, match="one or more different names"):
        to_coco(read(folder), classes=classes)


def test_another_treatment_of_difficult_objects_is_an_error():
    with pytest.raises(UserError, match="got 'ignore'"):
        to_coco([], difficult="ignore")


@pytest.mark.parametrize("suffix", [".TIF", ".Jpg", ".webp"])
def test_suffixes_count_in_any_case(folder, suffix):
    add(folder, "a", ("cat", 1, 2, 11, 22), filename=f"a{suffix}")
    (image,) = read(folder)
    assert image.file_name == f"a{suffix}"


def test_what_macos_adds_is_no_annotation(folder, caplog):
    add(folder, "a", ("cat", 1, 2, 11, 22))
    (folder / "Annotations" / "._a.xml").write_bytes(b"\0")
    (folder / "JPEGImages" / "._a.jpg").write_bytes(b"\0")
    assert [image.file_name for image in read(folder)] == ["a.jpg"] and not caplog.records


def test_a_pipe_is_no_annotation(folder):
    os.mkfifo(folder / "Annotations" / "a.xml")
    with pytest.raises(UserError, match=r"a\.xml is no regular file"):
        read(folder)
