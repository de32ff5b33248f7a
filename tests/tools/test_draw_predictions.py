"""tools/draw_predictions.py: which pictures, which boxes, and the sheet."""

import importlib.util
import json
import sys

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model
from detectron2.structures import BoxMode
from PIL import Image

from tests.command import run_python
from vfnet.engine import load_config
from vfnet.errors import UserError

CONFIG = "configs/demo/shapes_R18.yaml"
# Of a cell and its title, in pixels: 4.8 inches, and 4.8 * 192 / 160 + 0.35 inches at the tallest.
CELL, TALLEST = 480, 611


@pytest.fixture
def tool(repository):
    path = repository / "tools" / "draw_predictions.py"
    spec = importlib.util.spec_from_file_location("draw_predictions", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(tool, repository, monkeypatch):
    """Call the tool's main() with a command line."""

    def call(*more):
        command = ["draw_predictions", "--config-file", repository / CONFIG, *more]
        monkeypatch.setattr(sys, "argv", [str(part) for part in command])
        tool.main()

    return call


def coloured(picture):
    """How many pixels are no grey, from 0 to 1."""
    return (picture.max(axis=2).astype(int) - picture.min(axis=2) > 60).mean()


def test_pictures_are_spread_over_the_dataset(tool):
    records = tool.choose_records("shapes_val", 3)
    assert [record["image_id"] for record in records] == [0, 50, 99]


def test_all_pictures_where_there_are_fewer_than_asked_for(tool):
    assert len(tool.choose_records("shapes_val", 10**6)) == 100


@pytest.mark.parametrize(
    "dataset, count, message", [("no_such", 1, "no_such"), ("shapes_val", 0, "got 0")]
)
def test_unknown_datasets_and_counts_are_named(tool, dataset, count, message):
    with pytest.raises(UserError, match=message):
        tool.choose_records(dataset, count)


def test_absent_files_of_a_dataset_are_named(tool, tmp_path):
    name = "draw_predictions_absent"
    DatasetCatalog.register(name, (tmp_path / "absent.json").read_text)
    MetadataCatalog.get(name).json_file = str(tmp_path / "absent.json")
    with pytest.raises(UserError, match=r"absent\.json is not there.*DETECTRON2_DATASETS"):
        tool.choose_records(name, 1)


def test_absent_pictures_of_a_dataset_are_named_where_they_are_drawn(tool, tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "0.png")
    records = [{"file_name": str(tmp_path / f"{i}.png"), "width": 4, "height": 4} for i in (0, 1)]
    DatasetCatalog.register("draw_predictions_pictures", lambda: records)
    assert tool.choose_records("draw_predictions_pictures", 1) == records[:1]
    with pytest.raises(UserError, match=r"1\.png is not there"):
        tool.choose_records("draw_predictions_pictures", 2)


def test_ground_truth_is_xyxy_without_crowds(tool):
    def annotation(box, mode, crowd):
        return {"bbox": box, "bbox_mode": mode, "category_id": 2, "iscrowd": crowd}

    annotations = [
        annotation([1, 2, 10, 20], BoxMode.XYWH_ABS, 0),
        annotation([3, 4, 5, 6], BoxMode.XYXY_ABS, 0),
        annotation([0, 0, 9, 9], BoxMode.XYXY_ABS, 1),
    ]
    boxes, classes, scores = tool.ground_truth({"annotations": annotations})
    assert boxes.tolist() == [[1, 2, 11, 22], [3, 4, 5, 6]]
    assert (classes, scores) == ([2, 2], None)
    assert tool.ground_truth({"annotations": []}).boxes.shape == (0, 4)


def write_results(path, rows):
    keys = ("image_id", "category_id", "bbox", "score")
    path.write_text(json.dumps([dict(zip(keys, row)) for row in rows]))
    return str(path)


def test_results_become_boxes_of_the_dataset_s_classes_above_the_threshold(tool, tmp_path):
    metadata = MetadataCatalog.get("draw_predictions_ids")
    metadata.set(thing_classes=["x", "y"], thing_dataset_id_to_contiguous_id={7: 0, 9: 1})
    rows = [(4, 9, [1, 2, 10, 20], 0.8), (4, 7, [0, 0, 5, 5], 0.5), (6, 7, [0, 0, 5, 5], 0.2)]
    path = write_results(tmp_path / "results.json", rows)
    predictions = tool.predictions_of_file(path, "draw_predictions_ids", 0.5)
    assert list(predictions) == [4]
    boxes, classes, scores = predictions[4]
    assert boxes.tolist() == [[1, 2, 11, 22], [0, 0, 5, 5]]
    assert (classes, scores) == ([1, 0], [0.8, 0.5])


@pytest.mark.parametrize(
    "content",
    ['[{"image_id": 0}]', "no json", '[{"image_id": 0, "category_id": 9, "bbox": [], "score": 1}]'],
)
def test_files_without_results_of_the_dataset_are_named(tool, tmp_path, content):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(UserError, match=r"results of shapes_val in .*results\.json"):
        tool.predictions_of_file(str(tmp_path / "results.json"), "shapes_val", 0.0)


def test_command_draws_given_results_beside_the_ground_truth(repository, tmp_path):
    # One large box in the first picture, nothing in the other two.
    results = write_results(tmp_path / "results.json", [(0, 0, [5.0, 5.0, 140.0, 120.0], 0.9)])
    output = tmp_path / "sheet.png"
    command = ["tools/draw_predictions.py", "--config-file", CONFIG, "--predictions", results]
    done = run_python(*command, "--count", 3, "--output", output, cwd=repository)
    assert done.returncode == 0, done.stderr
    sheet = np.asarray(Image.open(output))
    # Three pairs: two in the first row, one in the second.
    assert sheet.shape[1] == 4 * CELL
    assert sheet.shape[0] in (2 * TALLEST, 2 * TALLEST - 1)
    second_row = sheet[sheet.shape[0] // 2 :]
    assert coloured(second_row[:, : 2 * CELL]) > 0.01
    assert (second_row[:, 2 * CELL :] == 255).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.json", "sheet.png"]


def test_a_prediction_equal_to_the_ground_truth_is_drawn_in_the_same_place_and_colour(tool):
    (record,) = tool.choose_records("shapes_val", 1)
    truth = tool.ground_truth(record)
    figure = tool.contact_sheet([record], {record["image_id"]: truth}, ["a", "b", "c"], 0.3)
    left, right = (axes.images[0].get_array() for axes in figure.axes)
    assert left.shape == (CELL * record["height"] // record["width"], CELL, 3)
    np.testing.assert_array_equal(left, right)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["000000.png: ground truth", "prediction, score from 0.3"]


def test_the_model_runs_where_no_results_are_given(run, repository, tmp_path):
    cfg = load_config(str(repository / CONFIG), ["MODEL.DEVICE", "cpu"])
    torch.manual_seed(0)
    torch.save({"model": build_model(cfg).state_dict()}, tmp_path / "model.pth")
    output = tmp_path / "sheet.jpg"
    run(
        "--weights", tmp_path / "model.pth", "--count", 1, "--output", output,
        "--confidence-threshold", 0.0, "--opts", "MODEL.DEVICE", "cpu",
    )  # fmt: skip
    sheet = np.asarray(Image.open(output))
    assert sheet.shape[1] == 2 * CELL
    # A hundred boxes of an untrained model at the right, a few at the left.
    left, right = sheet[:, :CELL].astype(int), sheet[:, CELL:].astype(int)
    assert (np.abs(left - right).max(axis=2) > 60).mean() > 0.1


@pytest.fixture
def own_data(tmp_path):
    """Writes a json and a picture: the entry of DATASETS.COCO_FORMAT."""

    def write(name):
        Image.new("RGB", (40, 20)).save(tmp_path / "a.png")
        coco = {
            "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 20}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 5, "bbox": [2, 2, 9, 9]}],
            "categories": [{"id": 5, "name": "nut"}],
        }
        (tmp_path / f"{name}.json").write_text(json.dumps(coco))
        return [name, str(tmp_path / f"{name}.json"), str(tmp_path)]

    return write


def gone(name):
    return [name, f"nowhere/{name}.json", "nowhere"]


@pytest.mark.parametrize("class_names", [["nut"], []], ids=["dumped", "written"])
def test_own_data_is_drawn_without_what_trained(run, tmp_path, own_data, class_names):
    name = f"draw_predictions_own_{len(class_names)}"
    overrides = ["DATASETS.COCO_FORMAT", str([gone("own_train"), own_data(name)])]
    overrides += ["DATASETS.TRAIN", "('own_train',)", "DATASETS.TEST", str((name,))]
    overrides += ["MODEL.VFNET.NUM_CLASSES", 1, "MODEL.VFNET.CLASS_NAMES", class_names]
    results = write_results(tmp_path / "results.json", [(1, 5, [2.0, 2.0, 9.0, 9.0], 0.9)])
    run("--predictions", results, "--output", tmp_path / "sheet.png", "--opts", *overrides)
    # One pair, each half as high as wide, and the title.
    assert Image.open(tmp_path / "sheet.png").size == (2 * CELL, CELL // 2 + 35)


def test_the_dataset_asked_for_is_the_only_one_needed(run, tmp_path, own_data):
    name = "draw_predictions_asked_for"
    overrides = ["DATASETS.COCO_FORMAT", str([own_data(name), gone("own_val")])]
    overrides += ["DATASETS.TRAIN", str((name,)), "DATASETS.TEST", "('own_val',)"]
    overrides += ["MODEL.VFNET.NUM_CLASSES", 80]
    results = write_results(tmp_path / "results.json", [])
    command = ["--predictions", results, "--output", tmp_path / "sheet.png"]
    run(*command, "--dataset", name, "--opts", *overrides)
    assert (tmp_path / "sheet.png").is_file()
    with pytest.raises(UserError, match=r"own_val\.json"):
        run(*command, "--opts", *overrides)


def test_a_random_class_layer_draws_nothing(run, repository, tmp_path):
    other = load_config(str(repository / CONFIG), ["MODEL.VFNET.NUM_CLASSES", "4"])
    other.MODEL.DEVICE = "cpu"
    torch.save({"model": build_model(other).state_dict()}, tmp_path / "model.pth")
    with pytest.raises(UserError, match=r"head\.cls_pred\.weight \(4, .* instead of \(3, "):
        run("--weights", tmp_path / "model.pth", "--output", tmp_path / "sheet.png")
    assert not (tmp_path / "sheet.png").exists()


def test_nothing_is_written_without_weights(run, tmp_path):
    with pytest.raises(UserError, match=r"MODEL\.WEIGHTS is empty"):
        run("--output", tmp_path / "sheet.png")
    assert not (tmp_path / "sheet.png").exists()


@pytest.mark.parametrize(
    "more, message",
    [
        (("--count", "0"), "got 0"),
        (("--dataset", "no_such"), "no_such"),
        (("--opts", "DATASETS.TEST", "()"), r"DATASETS\.TEST is empty"),
    ],
)
def test_bad_arguments_are_named(run, tmp_path, more, message):
    with pytest.raises(UserError, match=message):
        run("--output", tmp_path / "sheet.png", *more)
