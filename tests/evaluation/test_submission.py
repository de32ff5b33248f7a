"""Image-only test sets: what is written, and that the whole set is in it."""

import json
import logging
import zipfile

import numpy as np
import pytest
import torch
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from pycocotools.coco import COCO

from tests.command import run_python
from tests.engine.tiny import CONFIG, picture, tiny_config, train_on
from tests.evaluation.coco_files import IMAGE_IDS, detections, own_config, write_coco
from vfnet.engine import Trainer, check_run
from vfnet.errors import UserError
from vfnet.evaluation.submission import (
    ImageDetections,
    SubmissionEvaluator,
    coco_entries,
    submission_name,
)

# Random weights score about 0.01: without a threshold they give dozens of boxes.
EVERYTHING = ("MODEL.VFNET.SCORE_THRESH_TEST", "0.0")


@pytest.mark.parametrize(
    "data_set, name",
    [
        ("coco_2017_test-dev", "detections_test-dev2017_vfnet_results"),
        ("coco_2017_test", "detections_test2017_vfnet_results"),
        ("my_test", "detections_my_test_vfnet_results"),
        ("my/../test set", "detections_my_.._test_set_vfnet_results"),
    ],
)
def test_files_are_called_as_cocos_server_asks(data_set, name):
    assert submission_name(data_set) == name


def found(boxes, scores, classes=None):
    count = len(scores)
    return ImageDetections(
        5,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.zeros(count, np.int64) if classes is None else np.array(classes),
    )


def test_entries_are_cocos_with_few_digits_and_the_ids_of_the_file():
    entries = coco_entries(
        found([[10.126, 20.0, 40.0, 60.5]], [0.1234567], classes=[2]), category_ids=(3, 7, 90)
    )
    assert json.dumps(entries) == (
        '[{"image_id": 5, "category_id": 90, "bbox": [10.13, 20.0, 29.87, 40.5], "score": 0.12346}]'
    )


def test_rounding_leaves_every_box_an_area():
    (entry,) = coco_entries(found([[10.0, 20.0, 10.004, 20.001]], [0.5]), (1,))
    assert entry["bbox"] == [10.0, 20.0, 0.01, 0.01]


def test_rounding_leaves_detections_in_their_order():
    scores = np.random.RandomState(0).rand(5000).astype(np.float32) / 50  # many equal 5 decimals
    lefts = np.arange(5000)
    boxes = np.stack([lefts, lefts, lefts + 9, lefts + 9], axis=1)
    entries = coco_entries(found(boxes, scores), (1,))
    rounded = np.array([entry["score"] for entry in entries])
    assert len(set(rounded.tolist())) < 2000
    # How pycocotools sorts; equal ones stay as they are in the file.
    as_read = np.argsort(-rounded, kind="mergesort")
    exact = np.argsort(-scores, kind="stable")
    assert [entries[i]["bbox"][0] for i in as_read] == lefts[exact].tolist()


def evaluator(folder, ids=IMAGE_IDS, name="coco_2017_test-dev"):
    return SubmissionEvaluator(name, str(folder), image_ids=ids, category_ids=(3, 7, 90))


def run_evaluator(evaluator, found):
    """Evaluate {image id: detections}."""
    evaluator.process([{"image_id": id_} for id_ in found], list(found.values()))
    return evaluator.evaluate()


def test_files_of_a_test_set_without_annotations(tmp_path, caplog):
    file = write_coco(tmp_path / "images")
    none = detections([], [], [])
    some = detections([[1, 2, 30, 40], [5, 6, 7, 8]], [0.25, 0.75], [0, 2])
    out = tmp_path / "inference"
    with caplog.at_level(logging.INFO, "vfnet"):
        results = run_evaluator(evaluator(out), {200: some, 5: some, 11: none})
    assert results == {"submission": {"num_images": 3.0, "num_detections": 4.0}}

    written = out / "detections_test-dev2017_vfnet_results.json"
    packed = written.with_suffix(".zip")
    assert sorted(out.iterdir()) == [written, packed]
    with zipfile.ZipFile(packed) as archive:
        assert archive.namelist() == [written.name]
        assert archive.read(written.name) == written.read_bytes()
    assert b" " not in written.read_bytes()
    entries = json.loads(written.read_bytes())
    assert [(e["image_id"], e["category_id"], e["score"]) for e in entries] == [
        *((5, 90, 0.75), (5, 3, 0.25), (200, 90, 0.75), (200, 3, 0.25))
    ]
    loaded = COCO(str(file)).loadRes(str(written))
    assert loaded.getAnnIds(imgIds=[200], catIds=[90]) == [3]
    assert loaded.anns[3]["bbox"] == [5.0, 6.0, 7.0, 8.0]

    assert "3 images, all of the set, 1 of them without a detection; 4 detections" in caplog.text
    assert "no AP is computed and none is to be expected" in caplog.text
    assert str(packed) in caplog.text and "https://cocodataset.org/#upload" in caplog.text


def test_only_cocos_test_sets_are_sent_to_cocos_server(tmp_path, caplog):
    none = detections([], [], [])
    with caplog.at_level(logging.INFO, "vfnet"):
        run_evaluator(evaluator(tmp_path, name="own"), dict.fromkeys(IMAGE_IDS, none))
    assert "own has no annotations" in caplog.text and "https" not in caplog.text


def test_nothing_detected_is_an_empty_list_and_said(tmp_path, caplog):
    none = detections([], [], [])
    with caplog.at_level(logging.INFO, "vfnet"):
        run_evaluator(evaluator(tmp_path, name="own"), dict.fromkeys(IMAGE_IDS, none))
    assert json.loads((tmp_path / "detections_own_vfnet_results.json").read_text()) == []
    assert "Nothing was detected at all" in caplog.text


@pytest.mark.parametrize(
    "ids, message",
    [
        ((5, 200), r"1 were not predicted \(ids \[11\]\)"),
        ((5, 11, 11, 200), r"1 were predicted more than once \(ids \[11\]\)"),
        ((5, 11, 12, 200), r"1 were predicted, but are not in its json file \(ids \[12\]\)"),
    ],
)
def test_an_image_that_is_missing_or_there_twice_is_an_error(tmp_path, ids, message):
    asked = evaluator(tmp_path / "out")
    none = detections([], [], [])
    asked.process([{"image_id": id_} for id_ in ids], [none] * len(ids))
    with pytest.raises(UserError, match=message):
        asked.evaluate()
    assert not (tmp_path / "out").exists()


def test_a_class_that_the_data_set_has_not_is_named_at_the_first_image(tmp_path):
    of = SubmissionEvaluator("own", str(tmp_path), [1], category_ids=[3, 7])
    with pytest.raises(UserError, match="own has 2 classes, but class 2 was detected"):
        of.process([{"image_id": 1}], [detections([[0.0, 0, 9, 9]] * 2, [0.9, 0.8], [1, 2])])


@pytest.mark.only_soak
def test_two_processes_of_the_real_command_write_what_one_process_does(
    tmp_path, repository, monkeypatch
):
    """Where Detectron2 looks for coco_2017_test-dev: three pictures, COCO's 80 of 90 categories."""
    things = [(c["id"], c["name"]) for c in COCO_CATEGORIES if c["isthing"]]
    file = write_coco(tmp_path / "coco" / "test2017", categories=things)
    cfg = own_config(tmp_path / "one", {"own": file}, *EVERYTHING)
    torch.manual_seed(0)
    model = Trainer.build_model(cfg)
    torch.save({"model": model.state_dict()}, tmp_path / "weights.pth")
    results = Trainer.test(cfg, model)
    count = results["submission"]["num_detections"]
    assert results["submission"]["num_images"] == len(IMAGE_IDS) and count > 50

    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    (tmp_path / "coco" / "annotations").mkdir()
    file.rename(tmp_path / "coco" / "annotations" / "image_info_test-dev2017.json")
    done = run_python(
        *(repository / "train_net.py", "--config-file", CONFIG, "--eval-only"),
        *("--num-gpus", "2", "--dist-url", "auto", "OUTPUT_DIR", tmp_path / "two"),
        *("MODEL.WEIGHTS", tmp_path / "weights.pth", "MODEL.VFNET.NUM_CLASSES", "80"),
        *("DATASETS.TEST", "('coco_2017_test-dev',)", *EVERYTHING),
        fresh=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    one = tmp_path / "one" / "inference" / "detections_own_vfnet_results.json"
    two = tmp_path / "two" / "inference" / "detections_test-dev2017_vfnet_results.json"
    assert two.read_bytes() == one.read_bytes()
    assert sorted(two.parent.iterdir()) == [two, two.with_suffix(".zip")]
    ids = {entry["category_id"] for entry in json.loads(two.read_text())}
    assert ids <= {id_ for id_, _ in things} and max(ids) > 80
    assert f"{len(IMAGE_IDS)} images, all of the set" in done.stdout
    for misleading in ("Annotations are not available", "valid predictions", "Traceback"):
        assert misleading not in done.stdout + done.stderr


def test_an_empty_list_of_annotations_is_none_too(tmp_path):
    cfg = own_config(tmp_path, {"own": write_coco(tmp_path / "images", annotations=[])})
    assert isinstance(Trainer.build_evaluator(cfg, "own"), SubmissionEvaluator)


def test_training_goes_through_a_test_set_without_annotations(tmp_path):
    own_config(tmp_path, {"own": write_coco(tmp_path / "images")})
    cfg = tiny_config(tmp_path, "DATASETS.TEST", "('own',)", *EVERYTHING)
    train_on(cfg, [picture(1)])
    row = (tmp_path / "metrics.json").read_text().splitlines()[-1]
    assert json.loads(row)["submission/num_images"] == len(IMAGE_IDS)


def checks(cfg):
    return check_run(cfg, cfg.DATASETS.TEST, "", training=False)


def test_before_the_run_it_is_said_that_there_will_be_no_ap(tmp_path):
    cfg = own_config(tmp_path, {"own": write_coco(tmp_path / "images")})
    (line,) = checks(cfg)
    assert line.startswith("own has no annotations, so no AP will be computed")


def test_before_the_run_a_missing_picture_is_named(tmp_path):
    cfg = own_config(tmp_path, {"own": write_coco(tmp_path / "images")})
    (tmp_path / "images" / "11.png").unlink()
    with pytest.raises(UserError, match="11.png is not there"):
        checks(cfg)


def test_an_ap_cannot_be_expected_of_a_set_without_annotations(tmp_path):
    expected = ("TEST.EXPECTED_RESULTS", "[['bbox', 'AP', 41.6, 0.1]]")
    file = write_coco(tmp_path / "images")
    with pytest.raises(UserError, match="own has no annotations .* TEST.EXPECTED_RESULTS"):
        checks(own_config(tmp_path, {"own": file}, *expected))
    with pytest.raises(UserError, match="DATASETS.TEST names 2; name one"):
        checks(own_config(tmp_path, {"own": file, "more": file}, *expected))
