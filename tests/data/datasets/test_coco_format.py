import json

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model
from detectron2.structures import BoxMode

import vfnet
from tests.data.datasets.coco_config import make_config
from vfnet.data import (
    publish_class_names,
    register_coco_format,
    register_test_sets,
)
from vfnet.errors import UserError


def test_metadata_is_there_before_the_file_is_loaded(make_coco):
    file, _ = make_coco()
    register_coco_format(make_config(("toy", file)))
    metadata = MetadataCatalog.get("toy")
    assert metadata.thing_classes == ["cell", "plate"]
    assert metadata.thing_dataset_id_to_contiguous_id == {3: 0, 7: 1}
    assert (metadata.json_file, metadata.image_root) == (str(file), str(file.parent))
    assert metadata.evaluator_type == "coco"


def test_records_are_detectron2s(make_coco):
    file, _ = make_coco()
    register_coco_format(make_config(("toy", file)))
    records = DatasetCatalog.get("toy")
    assert [record["image_id"] for record in records] == [1, 2, 3, 4]
    assert records[0]["file_name"] == str(file.parent / "1.png")
    (annotation,) = records[0]["annotations"]
    assert annotation["category_id"] == 1 and annotation["bbox_mode"] == BoxMode.XYWH_ABS


def test_the_config_takes_classes_and_their_count(make_coco):
    file, _ = make_coco()
    cfg = make_config(("toy", file))
    register_coco_format(cfg)
    assert cfg.MODEL.VFNET.NUM_CLASSES == 2
    assert cfg.MODEL.VFNET.CLASS_NAMES == ["cell", "plate"]


def test_a_frozen_config_that_says_it_all_passes(make_coco):
    file, _ = make_coco()
    cfg = make_config(("toy", file))
    register_coco_format(cfg)
    cfg.freeze()
    before = cfg.dump()
    register_coco_format(cfg)
    assert cfg.dump() == before


def test_an_empty_list_changes_nothing():
    cfg = make_config()
    before = cfg.dump(), set(DatasetCatalog)
    register_coco_format(cfg)
    assert (cfg.dump(), set(DatasetCatalog)) == before


def test_the_command_line_and_a_dumped_config_carry_entries(make_coco, tmp_path):
    file, _ = make_coco()
    cfg = vfnet.get_cfg()
    cfg.merge_from_list(["DATASETS.COCO_FORMAT", f"[['toy', '{file}', '{file.parent}']]"])
    register_coco_format(cfg)
    (tmp_path / "config.yaml").write_text(cfg.dump())

    loaded = vfnet.get_cfg()
    loaded.merge_from_file(str(tmp_path / "config.yaml"))
    register_coco_format(loaded)
    assert loaded.MODEL.VFNET.CLASS_NAMES == ["cell", "plate"]
    assert list(loaded.DATASETS.COCO_FORMAT[0]) == ["toy", str(file), str(file.parent)]


@pytest.mark.parametrize("entry", ["toy", ["toy", "a.json"], ["toy", "a.json", 3], ["", "a", "b"]])
def test_a_malformed_entry_is_shown(entry):
    cfg = make_config()
    cfg.DATASETS.COCO_FORMAT = [entry]
    with pytest.raises(UserError, match="COCO_FORMAT has to be a list of") as caught:
        register_coco_format(cfg)
    assert repr(entry) in str(caught.value)


def test_the_same_name_with_another_file_is_an_error(make_coco):
    first, _ = make_coco("first")
    second, _ = make_coco("second")
    register_coco_format(make_config(("toy", first)))
    with pytest.raises(UserError, match='"toy" belongs to another data set.*first.json'):
        register_coco_format(make_config(("toy", second)))
    assert MetadataCatalog.get("toy").json_file == str(first)


def test_one_name_twice_in_the_list_is_an_error(make_coco):
    first, _ = make_coco("first")
    second, _ = make_coco("second")
    with pytest.raises(UserError, match='"toy" twice'):
        register_coco_format(make_config(("toy", first), ("toy", second)))
    assert "toy" not in DatasetCatalog


@pytest.mark.parametrize("name", ["coco_2017_val", "shapes_val"])
def test_a_name_that_is_taken_is_an_error(make_coco, name):
    file, _ = make_coco()
    with pytest.raises(UserError, match=f'"{name}" belongs to another data set'):
        register_coco_format(make_config((name, file)))


def test_a_file_whose_categories_changed_needs_a_new_process(make_coco):
    file, content = make_coco()
    register_coco_format(make_config(("toy", file)))
    content["categories"][0]["name"] = "other"
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r'"toy" is known with the classes .*other'):
        register_coco_format(make_config(("toy", file)))


def test_train_and_val_have_to_agree(make_coco):
    train, _ = make_coco("train")
    val, _ = make_coco("val", categories=((3, "cell"), (8, "plate")))
    cfg = make_config(("t", train), ("v", val), train=("t",), test=("v",))
    with pytest.raises(UserError, match=r"t and v have different.*\(7, 'plate'\).*\(8, 'plate'\)"):
        register_coco_format(cfg)
    assert "t" not in DatasetCatalog and cfg.MODEL.VFNET.NUM_CLASSES == 80


def test_entries_that_no_one_uses_may_differ(make_coco):
    used, _ = make_coco("used")
    other, _ = make_coco("other", categories=((1, "dog"),))
    cfg = make_config(("other", other), ("used", used), train=("used",))
    register_coco_format(cfg)
    assert cfg.MODEL.VFNET.CLASS_NAMES == ["cell", "plate"]
    assert MetadataCatalog.get("other").thing_classes == ["dog"]


def test_another_class_count_is_an_error(make_coco):
    file, _ = make_coco()
    cfg = make_config(("toy", file))
    cfg.MODEL.VFNET.NUM_CLASSES = 3
    with pytest.raises(UserError, match="NUM_CLASSES is 3, but toy has 2 categories"):
        register_coco_format(cfg)
    assert "toy" not in DatasetCatalog


def test_other_class_names_are_an_error(make_coco):
    file, _ = make_coco()
    cfg = make_config(("toy", file))
    cfg.MODEL.VFNET.CLASS_NAMES = ["plate", "cell"]
    with pytest.raises(UserError, match="CLASS_NAMES is .*'plate', 'cell'.*but toy has"):
        register_coco_format(cfg)


@pytest.mark.parametrize(
    ("architecture", "node"), [("RetinaNet", "RETINANET"), ("GeneralizedRCNN", "ROI_HEADS")]
)
def test_the_configured_detector_takes_the_classes(make_coco, architecture, node):
    file, _ = make_coco()
    cfg = make_config(("toy", file))
    cfg.MODEL.META_ARCHITECTURE = architecture
    register_coco_format(cfg)
    assert cfg.MODEL[node].NUM_CLASSES == 2 and cfg.MODEL[node].CLASS_NAMES == ["cell", "plate"]
    assert cfg.MODEL.VFNET.NUM_CLASSES == 80 and cfg.MODEL.VFNET.CLASS_NAMES == []
    cfg.MODEL[node].NUM_CLASSES = 3
    with pytest.raises(UserError, match=f"MODEL.{node}.NUM_CLASSES is 3, but toy has 2"):
        register_coco_format(cfg)


def test_a_bad_file_stops_before_anything_is_registered(make_coco):
    good, _ = make_coco("good")
    bad, _ = make_coco("bad", images=[])
    cfg = make_config(("good", good), ("bad", bad))
    with pytest.raises(UserError, match="bad.json"):
        register_coco_format(cfg)
    assert "good" not in DatasetCatalog and cfg.MODEL.VFNET.CLASS_NAMES == []


def test_a_config_alone_publishes_its_class_names():
    cfg = make_config(train=("learned", "more"), test=("far_away", "farther"))
    cfg.MODEL.VFNET.CLASS_NAMES = ["cell", "plate"]
    publish_class_names(cfg)
    assert MetadataCatalog.get("learned").thing_classes == ["cell", "plate"]
    assert MetadataCatalog.get("far_away").thing_classes == ["cell", "plate"]
    for other in ("more", "farther"):
        assert MetadataCatalog.get(other).get("thing_classes") is None


def test_building_a_model_publishes_nothing():
    cfg = make_config(train=("learned",), test=("far_away",))
    cfg.merge_from_file(vfnet.model_zoo.get_config_file("demo/shapes_R18.yaml"))
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("learned",), ("far_away",)
    cfg.MODEL.VFNET.NUM_CLASSES, cfg.MODEL.VFNET.CLASS_NAMES = 2, ["cell", "plate"]
    cfg.MODEL.DEVICE = "cpu"
    build_model(cfg)
    assert not {"learned", "far_away"} & set(MetadataCatalog.list())


def test_published_names_reach_an_unmodified_predictor(make_coco):
    cfg = make_config(test=("far_away",))
    cfg.MODEL.META_ARCHITECTURE = "RetinaNet"  # any of Detectron2's: only the metadata matters
    cfg.MODEL.RETINANET.CLASS_NAMES = ["cell", "plate"]
    cfg.MODEL.BACKBONE.NAME = "build_retinanet_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.FPN.IN_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.DEVICE = "cpu"
    publish_class_names(cfg)
    assert DefaultPredictor(cfg).metadata.thing_classes == ["cell", "plate"]


def test_published_names_never_replace_known_ones_and_say_so(make_coco, caplog):
    file, _ = make_coco()
    register_coco_format(make_config(("toy", file)))
    cfg = make_config(test=("toy",))
    cfg.MODEL.VFNET.CLASS_NAMES = ["cell", "plate"]
    publish_class_names(cfg)
    assert not caplog.records
    cfg.MODEL.VFNET.CLASS_NAMES = ["a", "b"]
    publish_class_names(cfg)
    assert MetadataCatalog.get("toy").thing_classes == ["cell", "plate"]
    (message,) = caplog.messages
    assert "['cell', 'plate']" in message and "['a', 'b']" in message and "another" in message
    assert caplog.records[0].name.startswith("vfnet.")


@pytest.mark.parametrize("masks", [[[1, 2, 3, 4]], [[]], {"size": [48, 64]}, "none"])
def test_no_box_is_lost_to_its_mask(make_coco, caplog, masks):
    file, content = make_coco()
    content["annotations"][1].update(segmentation=masks, keypoints=["x", 0, 1])
    file.write_text(json.dumps(content))
    register_coco_format(make_config(("toy", file)))
    records = DatasetCatalog.get("toy")
    assert [[a["bbox"] for a in r["annotations"]] for r in records] == [[[4, 6, 20, 16]]] * 4
    assert not any("segmentation" in a for record in records for a in record["annotations"])
    assert "Filtered out" not in caplog.text


def test_a_set_without_annotations_loads(make_coco):
    file, content = make_coco()
    del content["annotations"]
    file.write_text(json.dumps(content))
    register_coco_format(make_config(("toy", file)))
    assert [record["annotations"] for record in DatasetCatalog.get("toy")] == [[]] * 4


def test_an_unused_entry_may_be_absent(make_coco, tmp_path):
    file, _ = make_coco()
    cfg = make_config(("gone", tmp_path / "gone.json"), ("toy", file), test=("toy",))
    register_coco_format(cfg)
    assert "gone" not in DatasetCatalog and "toy" in DatasetCatalog
    assert cfg.MODEL.VFNET.CLASS_NAMES == ["cell", "plate"]


@pytest.mark.parametrize("used", [{"train": ("gone",)}, {"test": ("gone",)}, {}])
def test_a_used_entry_may_not(make_coco, tmp_path, used):
    file, _ = make_coco()
    with pytest.raises(UserError, match=r"gone\.json is not there"):
        register_coco_format(make_config(("gone", tmp_path / "gone.json"), ("toy", file), **used))


def test_evaluation_does_without_the_training_files(make_coco, tmp_path):
    file, _ = make_coco()
    entries = ("gone", tmp_path / "gone.json"), ("toy", file)
    cfg = make_config(*entries, train=("gone",), test=("toy",))
    register_test_sets(cfg)
    assert "gone" not in DatasetCatalog and "toy" in DatasetCatalog
    assert cfg.DATASETS.TRAIN == ("gone",) and cfg.MODEL.VFNET.NUM_CLASSES == 2
    with pytest.raises(UserError, match=r"gone\.json is not there"):
        register_test_sets(make_config(*entries, train=("toy",), test=("gone",)))


def test_the_bccd_files_register_with_their_three_classes(shared):
    folder = shared / "data" / "bccd"
    cfg = vfnet.get_cfg()
    cfg.DATASETS.COCO_FORMAT = [
        [f"bccd_{split}", str(folder / f"{split}.json"), str(folder / "images")]
        for split in ("train", "val")
    ]
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("bccd_train",), ("bccd_val",)
    register_coco_format(cfg)
    assert cfg.MODEL.VFNET.NUM_CLASSES == 3
    assert MetadataCatalog.get("bccd_val").thing_classes == ["RBC", "WBC", "Platelets"]
    counts = {
        name: (len(records), sum(len(record["annotations"]) for record in records))
        for name in ("bccd_train", "bccd_val")
        for records in [DatasetCatalog.get(name)]
    }
    assert counts == {"bccd_train": (291, 3954), "bccd_val": (73, 932)}
