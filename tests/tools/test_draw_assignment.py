"""tools/draw_assignment.py: the real command, and what it refuses."""

import sys

import numpy as np
import pytest
from detectron2.data import DatasetCatalog
from PIL import Image

from tests.tools.inspected import LIBRA, TINY, run_tool
from vfnet.data import read_picture
from vfnet.errors import UserError

VAL = ("--dataset", "shapes_val")
NO_RESIZE = ("INPUT.MIN_SIZE_TRAIN", "(0,)")


def test_the_command_draws_a_panel_for_each_level_without_weights(tmp_path):
    output = tmp_path / "assignment.png"
    result = run_tool("draw_assignment", "--config-file", TINY, "--output", output, *VAL)
    assert result.returncode == 0, result.stderr
    record = DatasetCatalog.get("shapes_val")[0]
    number = len(record["annotations"])
    assert result.stdout.splitlines()[-1].startswith(f"{number} boxes of {record['file_name']}, ")
    drawn = np.asarray(Image.open(output)).astype(int)
    colourful = drawn.max(axis=2) - drawn.min(axis=2) > 100
    # Two rows of three panels: all boxes, P3, ..., P7; shapes as small as these are learnt by P3.
    panels = [part for row in np.array_split(colourful, 2) for part in np.array_split(row, 3, 1)]
    shares = [panel.mean() for panel in panels]
    assert min(shares[:2]) > 0.01 and shares[5] < shares[1]


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Call the tool's main() with a command line, on the tiny VFNet unless another is named."""
    import draw_assignment

    def call(*arguments, config=TINY):
        command = ["draw_assignment", "--config-file", config, "--output", tmp_path / "a.png"]
        monkeypatch.setattr(sys, "argv", [str(part) for part in (*command, *arguments)])
        draw_assignment.main()

    return call


@pytest.fixture
def drawn(monkeypatch):
    """The pictures that the tool would draw on; drawing takes long."""
    import draw_assignment

    pictures = []
    monkeypatch.setattr(draw_assignment, "draw_assignment", lambda *all_: pictures.append(all_[0]))
    monkeypatch.setattr(draw_assignment, "write_figure", lambda *_: None)
    return pictures


@pytest.mark.parametrize("image", ["000007.png", "7"])
def test_a_picture_is_found_by_its_name_and_its_id(run, drawn, capsys, image):
    run(*VAL, "--image", image, "--opts", "INPUT.RANDOM_FLIP", "none", *NO_RESIZE)
    (record,) = [r for r in DatasetCatalog.get("shapes_val") if r["image_id"] == 7]
    np.testing.assert_array_equal(drawn[0], read_picture(record["file_name"], "RGB"))
    assert "000007.png" in capsys.readouterr().out.splitlines()[-1]


def test_a_seed_says_what_the_augmentations_draw(run, drawn):
    for seed in (0, 0, 5):
        run(*VAL, "--seed", seed, "--opts", "INPUT.MIN_SIZE_TRAIN", "(64, 80, 96, 112, 128)")
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((*VAL, "--image", "none.png"), r"no picture none\.png: .* of its 100 pictures, such as 0"),
        (("--dataset", "no_such"), "no_such"),
        (("--seed", "-1"), "0 or more, got -1"),
        (("--opts", "DATASETS.TRAIN", "()"), r"DATASETS\.TRAIN is empty"),
        (("--weights", "none.pth"), r"none\.pth"),
    ],
)
def test_bad_input_is_named_and_nothing_is_written(run, tmp_path, arguments, message):
    with pytest.raises(UserError, match=message):
        run(*arguments)
    assert not (tmp_path / "a.png").exists()


def test_other_detectors_are_refused(run):
    with pytest.raises(UserError, match="got GeneralizedRCNN"):
        run(config=LIBRA)
