"""tools/draw_star.py: the real command, and what it refuses."""

import sys

import numpy as np
import pytest
from PIL import Image

from tests.tools.inspected import LIBRA, TINY, random_weights, run_tool
from vfnet.errors import UserError
from vfnet.inspection.star_figure import LOCATION, POINT, REFINED


@pytest.fixture
def picture(tmp_path):
    pixels = np.random.RandomState(0).randint(90, 110, (96, 128, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


OPTS = ("--opts", "DATASETS.TEST", "('shapes_val',)", "MODEL.VFNET.SCORE_THRESH_TEST", "0.0")


def near(picture, color):
    """How many pixels have a colour, but for what JPEG changed."""
    rgb = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return (np.abs(picture.astype(int) - rgb).max(axis=2) < 40).sum()


def test_the_command_draws_points_boxes_and_locations(tmp_path, picture):
    output = tmp_path / "new" / "star.jpg"
    weights = random_weights(tmp_path / "model.pth")
    result = run_tool(
        "draw_star", "--config-file", TINY, "--weights", weights, "--input", picture,
        "--output", output, "--count", 4, "--confidence-threshold", 0, *OPTS,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == f"4 detections of {picture}: {output}"
    drawn = np.asarray(Image.open(output))
    # Four panels of two sizes; the dots of each are large.
    assert near(drawn, POINT) > 4 * 100 and near(drawn, LOCATION) > 4 * 20
    assert near(drawn, REFINED) > 4 * 20


@pytest.fixture
def run(repository, monkeypatch, tmp_path):
    """Call the tool's main() with a command line."""
    import draw_star

    def call(*arguments):
        command = ["draw_star", "--output", tmp_path / "star.png", *arguments]
        monkeypatch.setattr(sys, "argv", [str(part) for part in command])
        draw_star.main()

    return call


def test_bad_input_is_named_and_nothing_is_written(run, tmp_path, picture):
    weights = random_weights(tmp_path / "model.pth")
    ours = ("--config-file", TINY, "--weights", weights)
    for arguments, message in (
        ((*ours, "--input", picture, "--count", 0), "at least 1, got 0"),
        ((*ours, "--input", tmp_path / "none.jpg"), r"none\.jpg"),
        ((*ours, "--input", picture, "--confidence-threshold", 1.1, *OPTS), "1.1 or more: lower"),
        (("--config-file", TINY, "--input", picture, *OPTS), r"MODEL\.WEIGHTS is empty"),
    ):
        with pytest.raises(UserError, match=message):
            run(*arguments)
    assert not (tmp_path / "star.png").exists()


def test_other_detectors_are_refused(run, tmp_path, picture):
    weights = random_weights(tmp_path / "model.pth", LIBRA)
    with pytest.raises(UserError, match="VFNet or RepPoints; got GeneralizedRCNN"):
        run("--config-file", LIBRA, "--weights", weights, "--input", picture, *OPTS[:3])
