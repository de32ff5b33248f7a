"""tools/plot_training.py: what is read, how it is smoothed, and the picture."""

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from vfnet.errors import UserError


@pytest.fixture
def tool(repository):
    path = repository / "tools" / "plot_training.py"
    spec = importlib.util.spec_from_file_location("plot_training", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_metrics(path, rows, tail=""):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + tail)
    return path


def test_rows_of_one_iteration_are_joined_and_the_later_value_wins(tool, tmp_path):
    rows = [
        {"iteration": 39, "total_loss": 2.0},
        {"iteration": 19, "total_loss": 3.0},
        {"iteration": 39, "bbox/AP": 12.5},
        {"iteration": 39, "total_loss": 1.5},  # a resumed run passes an iteration again
    ]
    metrics = tool.read_metrics(write_metrics(tmp_path / "metrics.json", rows))
    assert metrics == [
        {"iteration": 19, "total_loss": 3.0},
        {"iteration": 39, "total_loss": 1.5, "bbox/AP": 12.5},
    ]
    iterations, values = tool.series(metrics, "total_loss")
    assert (iterations.tolist(), values.tolist()) == ([20, 40], [3.0, 1.5])
    assert tool.series(metrics, "bbox/AP50")[1].shape == (0,)


def test_half_a_line_of_a_killed_run_is_left_out_and_said(tool, tmp_path, capsys):
    path = write_metrics(tmp_path / "m.json", [{"iteration": 0, "total_loss": 1.0}], '{"iter')
    assert len(tool.read_metrics(path)) == 1
    assert "1 lines are not metrics" in capsys.readouterr().err


def test_smoothing_averages_neighbours(tool):
    smoothed = tool.smooth(np.array([0.0, 0.0, 10.0, 0.0, 0.0, 5.0]), window=5)
    np.testing.assert_allclose(smoothed, [10 / 3, 10 / 4, 10 / 5, 15 / 5, 15 / 4, 5 / 3])


@pytest.mark.parametrize("length", [1, 2, 3])
def test_smoothing_keeps_a_constant_of_any_length(tool, length):
    np.testing.assert_allclose(tool.smooth(np.full(length, 4.0)), np.full(length, 4.0))


@pytest.mark.parametrize("content", ["", "no json\n", None])
def test_no_metrics_is_an_error(tool, tmp_path, content):
    path = tmp_path / "metrics.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match="Detectron2's metrics"):
        tool.read_metrics(path)


def test_command_writes_the_picture(tmp_path, repository):
    rows = [
        {"iteration": 20 * i, "total_loss": 3 / (i + 1), "loss_cls": 1 / (i + 1), "bbox/AP": 5 * i}
        for i in range(10)
    ]
    metrics = write_metrics(tmp_path / "metrics.json", rows)
    output = tmp_path / "plot.png"
    command = [sys.executable, "tools/plot_training.py", str(metrics), str(output)]
    subprocess.run(command, cwd=repository, check=True)
    picture = np.asarray(Image.open(output))
    assert picture.shape == (450, 1200, 3)
    # Both halves hold coloured lines, not only black on white.
    for half in (picture[:, :600], picture[:, 600:]):
        assert (half.max(axis=2).astype(int) - half.min(axis=2) > 50).sum() > 100
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.json", "plot.png"]


def test_nothing_is_written_where_there_are_no_metrics(tool, tmp_path, monkeypatch):
    output = tmp_path / "plot.png"
    monkeypatch.setattr(sys, "argv", ["plot_training", str(tmp_path / "none.json"), str(output)])
    with pytest.raises(UserError, match=r"no file at .*none\.json"):
        tool.main()
    assert not output.exists()


def test_a_name_that_is_no_picture_s_is_refused(tool, tmp_path, monkeypatch):
    metrics = write_metrics(tmp_path / "metrics.json", [{"iteration": 0, "total_loss": 1.0}])
    monkeypatch.setattr(sys, "argv", ["plot_training", str(metrics), str(tmp_path / "plot.txt")])
    with pytest.raises(UserError, match=r"such as plot\.png, got .*plot\.txt"):
        tool.main()
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]


def test_the_losses_of_any_detector_are_drawn(tool):
    metrics = [
        {"iteration": 19, "total_loss": 3.0, "loss_cls": 1.0, "loss_dfl": 2.0, "lr": 0.01},
        {"iteration": 39, "total_loss": 2.0, "gfl/num_pos": 4.0, "bbox/AP": 1.0},
    ]
    losses, _ = tool.plot(metrics).axes
    labels = [text.get_text() for text in losses.get_legend().get_texts()]
    assert labels == ["total_loss", "loss_cls", "loss_dfl"]
