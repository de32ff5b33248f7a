"""What a run left: what is read, how it is smoothed, and that it is drawn as it was written."""

import json
import math
import os
import shutil

import numpy as np
import pytest

from vfnet.errors import UserError
from vfnet.evaluation.precision_recall import ClassCurve
from vfnet.inspection.figures import figure_pixels
from vfnet.inspection.run import (
    RESULTS,
    ap_names,
    curves_of_run,
    loss_names,
    read_metrics,
    series,
    smooth,
)
from vfnet.inspection.run_figure import MOST_CLASSES, draw_run, lowest


def write_metrics(path, rows, tail=""):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + tail)
    return path


def test_rows_of_one_iteration_are_joined_and_the_later_value_wins(tmp_path):
    rows = [
        {"iteration": 39, "total_loss": 2.0},
        {"iteration": 19, "total_loss": 3.0},
        {"iteration": 39, "bbox/AP": 12.5},
        {"iteration": 39, "total_loss": 1.5},  # a resumed run passes an iteration again
    ]
    metrics = read_metrics(write_metrics(tmp_path / "metrics.json", rows))
    assert metrics == [
        {"iteration": 19, "total_loss": 3.0},
        {"iteration": 39, "total_loss": 1.5, "bbox/AP": 12.5},
    ]
    iterations, values = series(metrics, "total_loss")
    assert (iterations.tolist(), values.tolist()) == ([20, 40], [3.0, 1.5])
    assert series(metrics, "bbox/AP50")[1].shape == (0,)


@pytest.mark.parametrize(
    "line",
    [
        '{"iter',
        "[" * 5000,
        "[1]",
        "{}",
        '{"iteration": "x"}',
        '{"iteration": NaN}',
        "null",
        "\ufffd",
    ],
)
def test_a_line_that_is_no_metrics_is_left_out_and_said(tmp_path, capsys, line):
    path = write_metrics(tmp_path / "m.json", [{"iteration": 0, "total_loss": 1.0}], line)
    assert len(read_metrics(path)) == 1
    assert "1 lines are not metrics" in capsys.readouterr().err


def test_values_that_are_no_numbers_are_left_out(tmp_path, capsys):
    values = {"iteration": 0, "total_loss": "text", "lr": math.nan, "a": True, "b": 10**400, "c": 2}
    assert read_metrics(write_metrics(tmp_path / "m.json", [values])) == [{"iteration": 0, "c": 2}]
    assert capsys.readouterr().err == ""


def test_smoothing_averages_neighbours():
    smoothed = smooth(np.array([0.0, 0.0, 10.0, 0.0, 0.0, 5.0]), window=5)
    np.testing.assert_allclose(smoothed, [10 / 3, 10 / 4, 10 / 5, 15 / 5, 15 / 4, 5 / 3])


@pytest.mark.parametrize("length", [1, 2, 3])
def test_smoothing_keeps_a_constant_of_any_length(length):
    np.testing.assert_allclose(smooth(np.full(length, 4.0)), np.full(length, 4.0))


@pytest.mark.parametrize("content", ["", "no json\n", None])
def test_no_metrics_is_an_error(tmp_path, content):
    path = tmp_path / "metrics.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match="Detectron2's metrics"):
        read_metrics(path)


def test_a_pipe_and_a_folder_are_named(tmp_path):
    os.mkfifo(tmp_path / "metrics.json")
    with pytest.raises(UserError, match="is no regular file"):
        read_metrics(tmp_path / "metrics.json")
    with pytest.raises(UserError, match="cannot be read"):
        read_metrics(tmp_path)


def test_names_of_losses_and_aps_are_found_of_any_detector_and_data_set():
    metrics = [
        {"iteration": 19, "loss_cls": 1.0, "loss_dfl": 2.0, "total_loss": 3.0, "lr": 0.01},
        {"iteration": 39, "a/bbox/AP": 1.0, "a/bbox/AP-bbox/x": 2.0, "gfl/num_pos": 4.0},
        {"iteration": 39, "bbox/AP75": 1.0, "bbox/APs": 2.0, "vfnet/AP-x": 4.0},
    ]
    assert loss_names(metrics) == ["total_loss", "loss_cls", "loss_dfl"]
    assert ap_names(metrics, of_classes=False) == ["a/bbox/AP", "bbox/AP75"]
    assert ap_names(metrics, of_classes=True) == ["a/bbox/AP-bbox/x"]
    assert loss_names([{"iteration": 0, "lr": 1.0}]) == []


METRICS = [
    {"iteration": 19, "total_loss": 3.0, "loss_cls": 1.0, "lr": 0.01},
    {"iteration": 39, "total_loss": 2.0, "loss_cls": 0.5, "lr": 0.001, "bbox/AP": 30.0},
    {"iteration": 59, "bbox/AP": 40.0, "bbox/AP-b": 10.0, "bbox/AP-$a$": 70.0},
]


def curve(name, ap, num_gt=4):
    parts = (np.array(part) for part in ([0.9, 0.5], [1.0, 0.6], [0.25, 0.75]))
    return ClassCurve(name, num_gt, *parts, ap)


def lines(axes):
    return {line.get_label().split(":")[0]: line.get_xydata().tolist() for line in axes.lines}


def test_curves_are_the_numbers_that_were_written():
    figure = draw_run(METRICS, [curve("$a$", 0.7), curve("b", 0.1), curve("c", math.nan, 0)], "val")
    losses, rate, aps, classes, by_recall, by_score = figure.axes
    smoothed = lines(losses)
    assert smoothed["total_loss"] == [[20, 2.5], [40, 2.5]]
    assert smoothed["loss_cls"] == [[20, 0.75], [40, 0.75]]
    assert losses.lines[0].get_xydata().tolist() == [[20, 3.0], [40, 2.0]]  # as written
    assert list(lines(rate).values()) == [[[20, 0.01], [40, 0.001]]]
    assert lines(aps) == {"AP": [[40, 30.0], [60, 40.0]]}
    # The same order, and so the same colours, in all three.
    assert lines(classes) == {r"AP-\$a\$": [[60, 70.0]], "AP-b": [[60, 10.0]]}
    drawn = [[25.0, 100.0], [75.0, 60.0]]
    assert lines(by_recall) == {r"\$a\$": drawn, "b": drawn}
    precision, recall = by_score.lines[1:3]
    assert precision.get_xydata().tolist() == [[0.9, 100.0], [0.5, 60.0]]
    assert recall.get_xydata().tolist() == [[0.9, 25.0], [0.5, 75.0]]
    # F1 is 0.4 from 0.9 on, 0.67 from 0.5 on.
    assert "best F1 from 0.50 on" in by_score.get_legend().get_texts()[0].get_text()


@pytest.mark.parametrize("name", ["m", 10 * "M", "a rather long name of a class"])
def test_no_legend_covers_a_curve_or_leaves_the_figure(name):
    losses = {f"loss_{i}": float(i) for i in range(4)}
    tests = {f"validation/{name}": value for name, value in losses.items()}
    metrics = [{"iteration": i, "lr": 0.1, **losses, **tests} for i in range(3)]
    names = "ab", name, name
    figure = draw_run(metrics, [curve(name, 0.5) for name in names], "val")
    figure_pixels(figure)  # lays it out
    found = [axes for axes in figure.axes if axes.get_legend()]
    assert len(found) == 4
    for axes in found:
        legend = axes.get_legend().get_window_extent()
        assert not any(
            other.get_tightbbox().overlaps(legend) for other in figure.axes if other != axes
        )
        assert legend.y1 < axes.xaxis.get_tightbbox().y0
        assert figure.bbox.x0 <= legend.x0 and legend.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= legend.y0


def test_a_run_without_an_evaluation_has_one_row():
    figure = draw_run(METRICS[:1], [])
    assert len(figure.axes) == 3
    assert [text.get_text() for text in figure.axes[2].texts] == ["none written"]


def test_of_many_classes_the_lowest_are_drawn():
    values = [5.0, 1.0, 4.0, *range(10, 30), 0.5]
    assert lowest(range(len(values)), values) == [0, 1, 2, 3, 4, 5, 6, len(values) - 1]
    figure = draw_run(METRICS, [curve(f"c{i}", value) for i, value in enumerate(values)])
    axes = figure.axes[4]
    assert len(axes.lines) == MOST_CLASSES
    assert axes.get_title().endswith(f"the 8 lowest of {len(values)} classes")


@pytest.fixture
def run_folder(tmp_path):
    """A run on own data, with one detection of its one object."""
    truth = {
        "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 20}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 5,
                "bbox": [2, 2, 9, 9],
                "area": 81,
                "iscrowd": 0,
            }
        ],
        "categories": [{"id": 5, "name": "nut"}],
    }
    (tmp_path / "val.json").write_text(json.dumps(truth))
    config = {
        "MODEL": {
            "META_ARCHITECTURE": "VFNet",
            "VFNET": {"NUM_CLASSES": 1, "CLASS_NAMES": ["nut"]},
        },
        "DATASETS": {
            "COCO_FORMAT": [
                ["plot_run_val", str(tmp_path / "val.json"), str(tmp_path)],
                ["plot_run_train", "nowhere.json", "nowhere"],
            ],
            "TRAIN": ["plot_run_train"],
            "TEST": ["plot_run_val"],
        },
    }
    (tmp_path / "config.yaml").write_text(json.dumps(config))  # which is yaml, too
    (tmp_path / "inference").mkdir()
    results = [{"image_id": 1, "category_id": 5, "bbox": [2, 2, 9, 8], "score": 0.8}]
    (tmp_path / "inference" / RESULTS).write_text(json.dumps(results))
    return tmp_path


def test_curves_of_a_run_are_those_of_its_own_test_set_without_what_trained(run_folder):
    dataset, (nut,) = curves_of_run(run_folder)
    assert (dataset, nut.name, nut.num_gt) == ("plot_run_val", "nut", 1)
    assert nut.ap == pytest.approx(1)
    assert [part.tolist() for part in nut[2:5]] == [[0.8], [1], [1]]


def test_the_ground_truth_is_what_the_evaluation_compared_with(run_folder):
    truth = json.loads((run_folder / "val.json").read_text())
    annotation = truth["annotations"][0]
    annotation["id"] = 0  # as exporters count, and pycocotools does not
    del annotation["area"]
    (run_folder / "val.json").write_text(json.dumps(truth), encoding="utf-16")
    _, (nut,) = curves_of_run(run_folder)
    assert (nut.num_gt, nut.recall.tolist()) == (1, [1])


def test_with_several_test_sets_each_has_its_own_detections(run_folder):
    config = json.loads((run_folder / "config.yaml").read_text())
    config["DATASETS"]["TEST"] = ["plot_run_val", "shapes_val"]
    (run_folder / "config.yaml").write_text(json.dumps(config))
    with pytest.raises(UserError, match=f"plot_run_val/{RESULTS}"):
        curves_of_run(run_folder)
    own = run_folder / "inference" / "plot_run_val"
    own.mkdir()
    shutil.move(run_folder / "inference" / RESULTS, own / RESULTS)
    assert curves_of_run(run_folder)[0] == "plot_run_val"
    with pytest.raises(UserError, match=f"shapes_val/{RESULTS}"):
        curves_of_run(run_folder, "shapes_val")


@pytest.mark.parametrize(
    "content, message",
    [
        ('[{"image_id": 1', "not a whole json file"),
        ('[{"image_id": 2, "category_id": 5, "bbox": [2, 2, 9, 8], "score": 1}]', "Assertion"),
        ('[{"image_id": 1, "category_id": 5, "score": 1}]', "expected detections of plot_run_val"),
        ('{"a": 1}', "expected detections of plot_run_val"),
        ("[1]", "expected detections of plot_run_val"),
        ("[" * 100_000, "not a whole json file"),
    ],
)
def test_damaged_detections_are_named(run_folder, content, message):
    (run_folder / "inference" / RESULTS).write_text(content)
    with pytest.raises(UserError, match=rf"(?s){message}.*|.*{RESULTS}.*{message}"):
        curves_of_run(run_folder)


@pytest.mark.parametrize(
    "name, message",
    [("config.yaml", "config.yaml does not exist"), ("val.json", "val.json is not there")],
)
def test_what_is_gone_is_named(run_folder, name, message):
    (run_folder / name).unlink()
    with pytest.raises(UserError, match=message):
        curves_of_run(run_folder)


def test_a_test_set_that_the_run_does_not_have_is_named(run_folder):
    with pytest.raises(UserError, match="plot_run_val.*got 'other'"):
        curves_of_run(run_folder, "other")
