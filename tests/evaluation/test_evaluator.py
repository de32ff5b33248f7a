"""COCO's metrics with their ground truths: counted by hand, and said where there are none."""

import json
import logging
import math

import pytest
import torch
from detectron2.evaluation.testing import flatten_results_dict

from tests.engine.tiny import picture, tiny_config, train_on
from tests.evaluation.coco_files import IMAGE_IDS, annotation, detections, own_config, write_coco
from vfnet.engine import Trainer
from vfnet.evaluation.evaluator import count_ground_truths, drop_undefined

# Two small boxes and a medium one, of the first and the second class; and a large crowd.
CELLS = ([10, 10, 10, 10], [40, 40, 20, 30])
PLATE = [50, 20, 40, 50]
ANNOTATIONS = [
    annotation(1, 5, 3, CELLS[0]),
    annotation(2, 5, 3, CELLS[1]),
    annotation(3, 11, 7, PLATE),
    annotation(4, 200, 90, [0, 0, 128, 96], iscrowd=1),
]
PERFECT = {
    5: detections(CELLS, [0.9, 0.8], [0, 0]),
    11: detections([PLATE], [0.9], [1]),
    200: detections([], [], []),
}
NOTHING = dict.fromkeys(IMAGE_IDS, detections([], [], []))


class Answers(torch.nn.Module):
    """A model that knows what to say of each image."""

    def __init__(self, answers):
        super().__init__()
        self.answers = answers

    def forward(self, inputs):
        return [self.answers[image["image_id"]] for image in inputs]


@pytest.fixture
def score(tmp_path, caplog):
    """Score an answer to each image of a data set; return the evaluator's results."""

    def run(answers, annotations=ANNOTATIONS, **files):
        file = write_coco(tmp_path / "images", annotations, **files)
        cfg = own_config(tmp_path / "out", {"own": file})
        evaluator = Trainer.build_evaluator(cfg, "own")
        evaluator.reset()
        evaluator.process([{"image_id": id_} for id_ in answers], list(answers.values()))
        with caplog.at_level(logging.INFO, "vfnet"):
            return evaluator.evaluate()

    return run


def rows(text):
    """The cells of the logged tables' rows, by the first cell."""
    lines = [[c.strip() for c in line.split("|")[1:-1]] for line in text.splitlines()]
    return {line[0]: line[1:] for line in lines if line}


def test_perfect_detections_have_ap_100_wherever_there_is_ground_truth(score, caplog):
    results = score(PERFECT)
    assert results["bbox"]["AP"] == pytest.approx(100)
    assert results["vfnet"] == pytest.approx(
        {
            **{"num_gt": 3, "num_gt_small": 2, "num_gt_medium": 1, "num_gt_large": 0},
            **{"AP-cell": 100, "num_gt-cell": 2, "AP-plate": 100, "num_gt-plate": 1},
            **{"AP-tray": math.nan, "num_gt-tray": 0},
        },
        nan_ok=True,
    )
    assert all(isinstance(value, float) for value in results["vfnet"].values())
    table = rows(caplog.text)
    assert table["cell"] == ["2", "100.0"] and table["plate"] == ["1", "100.0"]
    assert table["tray"] == ["0", "none of this class"]
    assert table["small"] == ["2", "100.0"] and table["medium"] == ["1", "100.0"]
    assert table["large"] == ["0", "none of this size"]
    assert table["all"] == ["3", "100.0"]


@pytest.mark.parametrize("ids", [(0, 1, 2, 3), (-2, 5, 2**127, 7), (1, 2, 3, 2**63)])
def test_every_id_and_area_of_an_annotation_can_be_scored(score, ids):
    annotations = [{**a, "id": id_, "area": None} for a, id_ in zip(ANNOTATIONS, ids)]
    del annotations[1]["area"], annotations[1]["iscrowd"]
    results = score(PERFECT, annotations)
    assert results["bbox"]["AP"] == pytest.approx(100) and results["vfnet"]["num_gt"] == 3


def test_a_class_with_a_bar_has_a_cell_of_its_own(score, caplog):
    score(PERFECT, categories=((3, "a|b"), (7, "plate"), (90, "tray")))
    assert rows(caplog.text.replace(r"a\|b", "a b"))["a b"] == ["2", "100.0"]


@pytest.mark.parametrize("kept, ap", [(100, 3400 / 101), (300, 100.0), (5, 3400 / 101)])
def test_as_many_detections_count_as_are_kept_and_never_fewer_than_cocos_100(tmp_path, kept, ap):
    """300 objects in one picture, all found: of 101 recalls 34 are reached with 100 of them."""
    boxes = [[k % 20 * 6, k // 20 * 6, 5, 5] for k in range(300)]
    annotations = [annotation(k + 1, 5, 3, box) for k, box in enumerate(boxes)]
    file = write_coco(tmp_path / "images", annotations, ((3, "cell"),))
    cfg = own_config(tmp_path, {"own": file}, "TEST.DETECTIONS_PER_IMAGE", str(kept))
    evaluator = Trainer.build_evaluator(cfg, "own")
    evaluator.reset()
    scores = torch.linspace(1, 0.5, 300)
    evaluator.process([{"image_id": 5}], [detections(boxes, scores, [0] * 300)])
    results = evaluator.evaluate()
    assert list(results["bbox"]) == ["AP", "AP50", "AP75", "APs", "APm", "APl"]
    assert results["bbox"]["AP"] == pytest.approx(ap)
    assert results["vfnet"]["AP-cell"] == results["bbox"]["AP"]


def test_a_missed_box_is_seen_in_its_class_and_its_size_alone(score, caplog):
    score({**PERFECT, 11: detections([], [], [])})
    table = rows(caplog.text)
    assert (table["cell"][1], table["plate"][1]) == ("100.0", "0.0")
    assert (table["small"][1], table["medium"][1], table["all"][1]) == ("100.0", "0.0", "50.0")


def test_finding_nothing_is_ap_0_and_not_unknown(score, caplog):
    results = score(NOTHING)
    defined = drop_undefined(results)
    names = ("AP", "AP50", "AP75", "APs", "APm", "AP-cell", "AP-plate")
    assert defined["bbox"] == dict.fromkeys(names, 0.0)
    assert results["bbox"].keys() == score(PERFECT)["bbox"].keys()
    assert "own: nothing was detected, which is AP 0" in caplog.text


def test_only_crowds_have_no_ap(score, caplog):
    results = score(NOTHING, ANNOTATIONS[3:])
    assert drop_undefined(results)["bbox"] == {}
    assert rows(caplog.text)["all"] == ["0", "none"]


def test_one_class(score, caplog):
    results = score({**NOTHING, 5: PERFECT[5]}, ANNOTATIONS[:2], categories=((3, "cell"),))
    assert results["vfnet"]["AP-cell"] == results["bbox"]["AP"] == pytest.approx(100)
    assert rows(caplog.text)["cell"] == ["2", "100.0"]


def test_many_classes_stand_side_by_side(score, caplog):
    categories = tuple((id_, f"class{id_}") for id_ in range(3, 25))
    score(PERFECT, ANNOTATIONS[:3], categories=categories)
    table = rows(caplog.text)
    # Of 22 classes, 8 in each column of the table; the third one is not full.
    absent = ["0", "none of this class"]
    assert table["class3"] == ["2", "100.0", "class11", *absent, "class19", *absent]
    assert table["class10"][2] == "class18" and table["class10"][5:] == ["", "", ""]


@pytest.mark.parametrize(
    "area, sizes",
    [
        (1023.9, {"small"}),
        # Both ends belong to a size in COCO's evaluation.
        (1024.0, {"small", "medium"}),
        (1024.1, {"medium"}),
        (9216.0, {"medium", "large"}),
        (9216.1, {"large"}),
    ],
)
def test_sizes_are_told_by_area_as_coco_does(area, sizes):
    counts = count_ground_truths([annotation(1, 5, 3, [0, 0, 1, 1], area=area)], [3])
    assert {size for size, count in counts.by_size.items() if count} == sizes


def test_the_border_of_two_sizes_has_the_ap_of_both(score):
    results = score(
        {**NOTHING, 5: detections([[0, 0, 32, 32]], [0.9], [0])},
        [annotation(1, 5, 3, [0, 0, 32, 32])],
    )
    assert results["bbox"]["APs"] == results["bbox"]["APm"] == pytest.approx(100)
    assert results["vfnet"]["num_gt_small"] == results["vfnet"]["num_gt_medium"] == 1


def test_two_data_sets_have_their_own_results_and_files(tmp_path):
    files = {
        "first": write_coco(tmp_path / "first", ANNOTATIONS),
        "second": write_coco(tmp_path / "second", ANNOTATIONS[:1]),
    }
    results = Trainer.test(own_config(tmp_path / "out", files), Answers(PERFECT))
    assert results["first"]["vfnet"]["num_gt"] == 3 and results["second"]["vfnet"]["num_gt"] == 1
    flat = flatten_results_dict(results)
    assert flat["first/bbox/AP"] == pytest.approx(100)
    assert all(isinstance(value, float) and math.isfinite(value) for value in flat.values())
    assert "first/vfnet/AP-tray" not in flat
    for name in files:
        assert (tmp_path / "out" / "inference" / name / "coco_instances_results.json").is_file()


def test_what_has_no_value_is_not_written_to_the_metrics(tmp_path):
    own_config(tmp_path, {"own": write_coco(tmp_path / "images", ANNOTATIONS)})
    cfg = tiny_config(tmp_path, "DATASETS.TEST", "('own',)")
    cfg.MODEL.VFNET.SCORE_THRESH_TEST = 0.9  # nothing passes it
    train_on(cfg, [picture(1)])

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    lines = (tmp_path / "metrics.json").read_text().splitlines()
    row = [json.loads(line, parse_constant=refuse) for line in lines][-1]
    assert row["vfnet/num_gt"] == 3 and row["vfnet/num_gt-cell"] == 2
    assert row["bbox/AP"] == row["vfnet/AP-cell"] == 0
    assert "bbox/APl" not in row and "vfnet/AP-tray" not in row
