import os

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

import vfnet
from vfnet.data import check_datasets, register_coco_format
from vfnet.errors import UserError


def test_the_shapes_are_always_there():
    check_datasets(["shapes_train", "shapes_val"])


def test_an_unknown_name_says_what_there_is(make_coco):
    file, _ = make_coco()
    cfg = vfnet.get_cfg()
    cfg.DATASETS.COCO_FORMAT = [["toy", str(file), str(file.parent)]]
    register_coco_format(cfg)
    check_datasets(["toy"])
    with pytest.raises(
        UserError, match='"my_train" is not a registered.*shapes_val, toy'
    ) as caught:
        check_datasets(["toy", "my_train"])
    assert "coco_2014_train" not in str(caught.value)


@pytest.mark.skipif(
    os.path.exists(MetadataCatalog.get("coco_2017_train").json_file), reason="COCO is here"
)
def test_absent_coco_says_what_to_set():
    with pytest.raises(UserError, match="instances_train2017.json is not there. Set .*") as caught:
        check_datasets(["coco_2017_train"])
    message = str(caught.value)
    assert message.startswith("coco_2017_train: ") and "\n" not in message
    assert "DETECTRON2_DATASETS" in message


def test_an_absent_folder_of_images_is_named(make_coco):
    file, _ = make_coco()
    cfg = vfnet.get_cfg()
    cfg.DATASETS.COCO_FORMAT = [["toy", str(file), "no/such/folder"]]
    register_coco_format(cfg)
    with pytest.raises(UserError, match="toy: no/such/folder is not there. Fix DATASETS.COCO"):
        check_datasets(["toy"])


def test_data_sets_of_one_run_need_the_same_classes():
    DatasetCatalog.register("mine", list)
    MetadataCatalog.get("mine").thing_classes = ["triangle", "circle", "square"]
    with pytest.raises(UserError, match="shapes_train and mine have different classes"):
        check_datasets(["shapes_train", "mine"])


def test_data_sets_without_class_names_pass():
    DatasetCatalog.register("mine", list)
    check_datasets(["mine", "shapes_train"])
