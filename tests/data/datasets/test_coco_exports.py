"""DATASETS.COCO_FORMAT with what exporters leave out or add."""

import json

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from pycocotools.coco import COCO

from tests.data.datasets.coco_config import make_config
from vfnet.data import evaluation_file, register_coco_format, register_test_sets, repairs_of


def roboflow_changes(content):
    """What Roboflow's exports have: ids from 0 on, and a root category."""
    content["categories"].insert(0, {"id": 0, "name": "things", "supercategory": "none"})
    for category in content["categories"][1:]:
        category["supercategory"] = "things"
    for annotation in content["annotations"]:
        annotation["id"] -= 1


def test_an_export_of_roboflow_needs_no_editing(make_coco):
    file, content = make_coco()
    roboflow_changes(content)
    file.write_text(json.dumps(content))
    cfg = make_config(("toy", file))
    register_coco_format(cfg)
    assert cfg.MODEL.VFNET.CLASS_NAMES == ["cell", "plate"]
    assert MetadataCatalog.get("toy").thing_dataset_id_to_contiguous_id == {3: 0, 7: 1}
    assert sum(len(record["annotations"]) for record in DatasetCatalog.get("toy")) == 4
    (line,) = repairs_of(["toy"])
    assert line.startswith("toy: 1 categories that group others") and "things" in line


def test_a_root_named_as_the_only_class_is_left_out(make_coco):
    file, content = make_coco(categories=((1, "cell"),))
    root = {"id": 0, "name": "cell", "supercategory": "none"}
    content["categories"] = [root, {"id": 1, "name": "cell", "supercategory": "cell"}]
    file.write_text(json.dumps(content))
    cfg = make_config(("toy", file))
    register_coco_format(cfg)
    assert cfg.MODEL.VFNET.CLASS_NAMES == ["cell"]


def test_a_class_that_one_file_of_the_run_uses_stays_in_the_other(make_coco):
    files = {name: make_coco(name) for name in ("t", "v")}
    for name, (file, content) in files.items():
        roboflow_changes(content)
        content["annotations"][0]["category_id"] = 0 if name == "t" else 3
        file.write_text(json.dumps(content))
    entries = [(name, file) for name, (file, _) in files.items()]
    cfg = make_config(*entries, train=("t",), test=("v",))
    register_coco_format(cfg)
    assert cfg.MODEL.VFNET.CLASS_NAMES == ["things", "cell", "plate"]


def test_evaluation_alone_keeps_the_classes_of_its_config(make_coco):
    file, content = make_coco()
    roboflow_changes(content)
    file.write_text(json.dumps(content))
    cfg = make_config(("toy", file), test=("toy",))
    cfg.MODEL.VFNET.CLASS_NAMES = ["things", "cell", "plate"]
    register_test_sets(cfg)
    assert MetadataCatalog.get("toy").thing_classes == ["things", "cell", "plate"]


def test_names_of_another_machine_lead_to_the_pictures(make_coco):
    file, content = make_coco()
    for image in content["images"][:2]:
        image["file_name"] = "C:\\data\\" + image["file_name"]
    file.write_text(json.dumps(content))
    register_coco_format(make_config(("toy", file)))
    names = [record["file_name"] for record in DatasetCatalog.get("toy")]
    assert names == [str(file.parent / f"{i}.png") for i in (1, 2, 3, 4)]
    (line,) = repairs_of(["toy"])
    assert "toy: 2 pictures are not where the json file says" in line and "-> 1.png" in line


def test_what_needs_no_repair_has_no_word(make_coco):
    file, _ = make_coco()
    register_coco_format(make_config(("toy", file)))
    assert repairs_of(["toy"]) == []
    with evaluation_file("toy"):
        assert MetadataCatalog.get("toy").json_file == str(file)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_pycocotools_reads_what_was_loaded(make_coco, encoding):
    file, content = make_coco()
    roboflow_changes(content)
    content["images"][0]["id"] = 2**70
    content["annotations"][0].update(image_id=2**70, id=2**70)
    del content["annotations"][1]["area"], content["annotations"][1]["iscrowd"]
    file.write_text(json.dumps(content), encoding=encoding)
    register_coco_format(make_config(("toy", file)))
    metadata = MetadataCatalog.get("toy")
    with evaluation_file("toy"):
        coco = COCO(metadata.json_file)
        assert metadata.json_file != str(file)
    assert metadata.json_file == str(file)
    assert sorted(coco.anns) == [1, 2, 3, 4] and sorted(coco.getCatIds()) == [3, 7]
    assert coco.anns[2]["area"] == 320 and coco.anns[2]["iscrowd"] == 0
