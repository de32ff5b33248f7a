import io
import itertools

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import (
    DatasetCatalog,
    DatasetMapper,
    MetadataCatalog,
    build_detection_train_loader,
)
from detectron2.data.detection_utils import read_image
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Boxes, Instances
from detectron2.utils.file_io import PathManager
from detectron2.utils.visualizer import Visualizer
from PIL import Image

import vfnet
from vfnet.data.datasets.shapes import load_shapes, register_shapes


def test_importing_vfnet_registers_both():
    assert vfnet.data and {"shapes_train", "shapes_val"} <= set(DatasetCatalog)
    assert MetadataCatalog.get("shapes_val").thing_classes == ["circle", "square", "triangle"]


def test_registering_again_is_no_harm():
    register_shapes()
    register_shapes()
    assert len(DatasetCatalog.get("shapes_val")) == 100


def test_train_and_val_have_their_own_pictures():
    train, val = DatasetCatalog.get("shapes_train"), DatasetCatalog.get("shapes_val")
    assert (len(train), len(val)) == (320, 100)
    boxes = [
        {tuple(a["bbox"]) for record in records for a in record["annotations"]}
        for records in (train, val)
    ]
    assert not boxes[0] & boxes[1]


def test_records_are_the_same_each_time():
    assert load_shapes("val") == load_shapes("val")


def test_a_picture_is_the_same_each_time_and_as_large_as_its_record_says():
    record = load_shapes("train")[12]
    assert record["file_name"] == "shapes://train/000012.png"
    first, again = (read_image(record["file_name"], "RGB") for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.shape == (record["height"], record["width"], 3)


def test_an_open_picture_is_a_png():
    with PathManager.open("shapes://val/000003.png", "rb") as file:
        assert Image.open(io.BytesIO(file.read())).format == "PNG"


def test_paths_that_are_no_picture():
    assert PathManager.exists("shapes://val/000099.png")
    assert PathManager.isfile("shapes://val/000099.png")
    for path in ("shapes://val/000100.png", "shapes://test/000000.png", "shapes://val/3.png"):
        assert not PathManager.exists(path)
        with pytest.raises(FileNotFoundError, match="val 0 to 99"):
            PathManager.open(path, "rb")


def test_pictures_are_neither_written_nor_files():
    with pytest.raises(OSError, match="mode rb, not wb"):
        PathManager.open("shapes://val/000003.png", "wb")
    with pytest.raises(OSError, match="has no file"):
        PathManager.get_local_path("shapes://val/000003.png")


def test_detectron2s_own_loader_and_mapper_work_on_them():
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = ("shapes_train",)
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.SOLVER.IMS_PER_BATCH = 2
    loader = build_detection_train_loader(cfg, mapper=DatasetMapper(cfg, True))
    (batch,) = itertools.islice(loader, 1)
    assert all(len(sample["instances"]) >= 1 for sample in batch)


def test_the_visualizer_draws_on_them():
    record = load_shapes("val")[0]
    picture = read_image(record["file_name"], "RGB")
    drawn = Visualizer(picture, MetadataCatalog.get("shapes_val")).draw_dataset_dict(record)
    assert (drawn.get_image() != picture).any()


def test_coco_evaluation_of_the_truth_is_perfect(tmp_path):
    evaluator = COCOEvaluator("shapes_val", tasks=("bbox",), output_dir=str(tmp_path))
    evaluator.reset()
    for record in load_shapes("val"):
        truth = Instances((record["height"], record["width"]))
        truth.pred_boxes = Boxes(torch.tensor([a["bbox"] for a in record["annotations"]]))
        truth.pred_classes = torch.tensor([a["category_id"] for a in record["annotations"]])
        truth.scores = torch.ones(len(truth))
        evaluator.process([record], [{"instances": truth}])
    results = evaluator.evaluate()["bbox"]
    assert results["AP"] == pytest.approx(100) and results["AP-triangle"] == pytest.approx(100)
