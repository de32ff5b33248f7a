"""vfnet.writers: what other tools read in the files."""

import csv
import json

import numpy as np
import pytest
from pycocotools.coco import COCO

from tests.predictions import NAMES, detections
from vfnet.errors import UserError
from vfnet.writers import (
    CocoIds,
    CocoWriter,
    CsvWriter,
    RecordWriter,
    YoloWriter,
    read_coco_ids,
    to_instances,
)

IMAGES = {
    "in/a.png": np.full((40, 80, 3), 51, np.uint8),
    "in/b.png": np.full((20, 30, 3), 102, np.uint8),
}


def write(writer):
    with writer:
        for name, image in IMAGES.items():
            writer.add(name, detections(image))


def test_records_hold_the_detections_as_they_were(tmp_path):
    write(RecordWriter(tmp_path / "r.json", NAMES))
    content = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert [record["file"] for record in content] == list(IMAGES)
    assert [d["class"] for d in content[0]["detections"]] == ["nut", "红细胞"]
    for record, image in zip(content, IMAGES.values()):
        found, expected = to_instances(record), detections(image)
        assert found.image_size == expected.image_size
        assert found.pred_boxes.tensor.equal(expected.pred_boxes.tensor)
        assert found.scores.equal(expected.scores)
        assert found.pred_classes.equal(expected.pred_classes)


def test_csv_has_a_row_for_each_detection(tmp_path):
    write(CsvWriter(tmp_path / "r.csv", NAMES))
    with open(tmp_path / "r.csv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["file"], row["class"]) for row in rows] == [
        (name, label) for name in IMAGES for label in ("nut", "红细胞")
    ]
    assert [float(rows[0][key]) for key in ("x1", "y1", "x2", "y2")] == [1, 2, 40, 20]
    assert rows[2]["width"] == "30" and float(rows[3]["score"]) == pytest.approx(0.4, abs=1e-6)


def test_yolo_labels_are_shares_of_the_picture(tmp_path):
    write(YoloWriter(tmp_path, NAMES))
    lines = (tmp_path / "labels" / "a.txt").read_text().splitlines()
    # (1, 2, 40, 20) of 80 x 40
    assert lines[0] == "0 0.256250 0.275000 0.487500 0.450000 0.900000"
    assert lines[1] == "2 0.500000 0.500000 1.000000 1.000000 0.200000"
    assert (tmp_path / "classes.txt").read_text(encoding="utf-8").split() == NAMES
    write(YoloWriter(tmp_path, NAMES, scores=False))
    assert (tmp_path / "labels" / "a.txt").read_text().splitlines()[1].count(" ") == 4


def test_coco_tools_read_results_beside_the_pictures_of_the_run(tmp_path):
    images = tmp_path / "images.json"
    write(CocoWriter(tmp_path / "r.json", NAMES, category_ids=[7, 3, 9], images_path=images))
    truth = COCO(str(images))
    results = truth.loadRes(str(tmp_path / "r.json"))
    assert [truth.imgs[index]["file_name"] for index in (1, 2)] == list(IMAGES)
    found = results.imgToAnns[1]
    assert [(a["category_id"], a["bbox"]) for a in found] == [
        (7, [1, 2, 39, 18]),
        (9, [0, 0, 80, 40]),
    ]
    assert truth.cats[9]["name"] == "红细胞"


def test_ids_come_from_the_data_set_that_holds_the_pictures(tmp_path):
    names = ("b.png", "a.png")
    content = {
        "images": [
            {"id": i, "file_name": name, "width": 8, "height": 8} for i, name in enumerate(names, 5)
        ],
        "categories": [{"id": 30 + i, "name": name} for i, name in enumerate(reversed(NAMES))],
    }
    (tmp_path / "data.json").write_text(json.dumps(content))
    ids = read_coco_ids(str(tmp_path / "data.json"), NAMES)
    write(CocoWriter(tmp_path / "r.json", NAMES, ids=ids))
    found = json.loads((tmp_path / "r.json").read_text())
    assert [(d["image_id"], d["category_id"]) for d in found] == [
        (6, 32),
        (6, 30),
        (5, 32),
        (5, 30),
    ]
    with pytest.raises(UserError, match="c.png is no picture of the COCO json"):
        ids.image_id("in/c.png")
    with pytest.raises(UserError, match="no category for 1 of 4 classes, the first 'screw'"):
        read_coco_ids(str(tmp_path / "data.json"), [*NAMES, "screw"])


def test_each_picture_has_an_id_of_its_own():
    ids = CocoIds([1], {"/data/a.png": 1, "val/b.png": 2, "c.png": 3})
    assert ids.image_id("/data/a.png") == 1  # a data set of absolute paths
    ids.check_pictures(["/data/a.png", "in/val/b.png", "in/c.png"])
    with pytest.raises(UserError, match="train/c.png and val/c.png are the same picture"):
        ids.check_pictures(["train/c.png", "val/c.png"])


def test_after_an_exception_nothing_is_left(tmp_path):
    for writer in (RecordWriter(tmp_path / "r.json", NAMES), CsvWriter(tmp_path / "r.csv", NAMES)):
        with pytest.raises(RuntimeError), writer:
            writer.add("a", detections(IMAGES["in/a.png"]))
            raise RuntimeError
    assert not list(tmp_path.iterdir())
