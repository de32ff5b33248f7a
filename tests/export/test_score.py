"""Which data sets an exported file is scored on, and what is refused before."""

import pytest
import torch
from detectron2.structures import Boxes, Instances

from tests.evaluation.coco_files import annotation, own_config, write_coco
from tests.export.test_exported import DESCRIPTION
from vfnet.errors import UserError
from vfnet.export.exported import ExportedDetector
from vfnet.export.score import check_classes, check_scorable, compare_scores, find_dataset

NAMES = ["cell", "plate", "tray"]


def file_of(**values):
    return ExportedDetector(DESCRIPTION._replace(class_names=NAMES, **values), None)


@pytest.fixture
def cfg(tmp_path):
    """A config that knows its own data set "trays"."""
    return own_config(tmp_path / "out", {"trays": write_coco(tmp_path / "data", annotations=[])})


def test_a_data_set_is_found_by_name_or_by_its_json(cfg, tmp_path):
    assert find_dataset(cfg, ["trays"]) == "trays"
    assert find_dataset(cfg, ["shapes_val"]) == "shapes_val"
    assert find_dataset(cfg, ["pictures/"]) == ""
    assert find_dataset(cfg, ["trays", "pictures/"]) == ""
    assert find_dataset(cfg, []) == ""
    words = [str(tmp_path / "data" / "images.json"), str(tmp_path / "data")]
    assert find_dataset(cfg, words) == words[0]
    with pytest.raises(UserError, match="nowhere.json"):
        find_dataset(cfg, ["nowhere.json", str(tmp_path)])


def test_a_json_with_other_classes_than_the_config_is_refused(cfg, tmp_path):
    other = write_coco(tmp_path / "other", [], categories=((1, "cup"), (2, "plate"), (3, "tray")))
    with pytest.raises(UserError, match=r"CLASS_NAMES is \['cell'.*has \['cup'"):
        find_dataset(cfg, [str(other), str(other.parent)])


def test_classes_have_to_be_those_of_the_file():
    check_classes(DESCRIPTION, "cells", ["cell", "Zelle"])
    check_classes(DESCRIPTION, "cells", None)
    with pytest.raises(UserError, match="cells has 3 classes, the file 2"):
        check_classes(DESCRIPTION, "cells", NAMES)
    with pytest.raises(UserError, match="cells has 'Zelle' as class 0, the file 'cell'"):
        check_classes(DESCRIPTION, "cells", ["Zelle", "cell"])


def test_raw_files_augmentation_and_slices_are_refused(cfg):
    check_scorable(file_of(), cfg)
    with pytest.raises(UserError, match="exported with --raw .* no detections"):
        check_scorable(file_of(raw=True), cfg)
    for node, key, value in ((cfg.TEST.AUG, "ENABLED", True), (cfg.TEST.SLICE, "SIZE", 640)):
        before, node[key] = node[key], value
        with pytest.raises(UserError, match="TEST.AUG.ENABLED False and TEST.SLICE.SIZE 0"):
            check_scorable(file_of(), cfg)
        node[key] = before


def test_both_see_the_same_pictures_as_the_file_wants_them(tmp_path):
    boxes = [
        {"id": 1, "image_id": 5, "category_id": 3, "bbox": [0, 0, 64, 48], "area": 3072}
        | {"iscrowd": 0}
    ]
    cfg = own_config(tmp_path / "out", {"trays": write_coco(tmp_path / "data", boxes)})
    seen = []

    def detector(batch):
        seen.extend(tuple(item["image"].shape) for item in batch)
        return [{"instances": detected(item)} for item in batch]

    class File(ExportedDetector):
        def __call__(self, batch):
            return detector(batch)

    exported = File(DESCRIPTION._replace(class_names=NAMES, size=(48, 48)), None)
    scores = compare_scores(cfg, exported, detector, "trays")
    assert seen == [(3, 36, 48)] * 6  # 96x128 brought into 48x48, by both
    assert scores.torch == scores.file == pytest.approx(100)
    assert scores.lost == 0
    assert not (tmp_path / "out").exists()


def detected(item):
    found = Instances((item["height"], item["width"]))
    found.pred_boxes = Boxes(torch.tensor([[0.0, 0.0, 64.0, 48.0]]))
    found.scores = torch.tensor([0.9 if item["image_id"] == 5 else 0.1])
    found.pred_classes = torch.tensor([0])
    return found


@pytest.mark.parametrize("boxes", [None, [annotation(1, 5, 3, [0, 0, 64, 48], iscrowd=1)]])
def test_a_data_set_without_boxes_but_crowds_has_no_score(tmp_path, boxes):
    file = write_coco(tmp_path / "data", boxes)
    cfg = own_config(tmp_path / "out", {"trays": file})
    exported = ExportedDetector(DESCRIPTION._replace(class_names=NAMES), None)
    with pytest.raises(UserError, match="trays has no boxes to score with"):
        compare_scores(cfg, exported, lambda batch: [{"instances": detected(batch[0])}], "trays")
