"""Commands of the documents that are cheap are run as they stand there, on a tiny run's files."""

import runpy
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from tests.docs.blocks import ROOT, commands, shell_blocks
from tests.engine.tiny import picture, tiny_config, train_on

# What a run leaves, and a reader has, in the folder that commands are given in.
RUNS = ("output/shapes", "output/own_data")
CHEAP = (
    "demo/demo.py",
    "tools/convert_mmdet_checkpoint.py",
    "tools/draw_predictions.py",
    "tools/plot_run.py",
)


def is_cheap(words: list[str]) -> bool:
    """Whether a command reads nothing but what the folder holds."""
    reads_run = any(word.startswith(RUNS) for word in words)
    foreign = [
        word
        for word in words
        if "://" in word or word.startswith(("configs/", "/")) or word == "my_val"
    ]
    return words[0].startswith("python") and words[1] in CHEAP and reads_run and not foreign


COMMANDS = {
    " ".join(words): words
    for block in shell_blocks()
    for words in commands(block)
    if len(words) > 1 and is_cheap(words)
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A clone in which a tiny VFNet was trained, and two pictures."""
    root = tmp_path_factory.mktemp("clone")
    for name in ("configs", "demo", "tools"):
        (root / name).symlink_to(ROOT / name)
    cfg = tiny_config(root / RUNS[0], "DATASETS.TEST", "('shapes_val',)")
    train_on(cfg, [picture(1), picture(2)])
    (root / RUNS[0] / "config.yaml").write_text(cfg.dump())
    shutil.copy(root / RUNS[0] / "model_final.pth", root / RUNS[0] / "model_best.pth")
    shutil.copytree(root / RUNS[0], root / RUNS[1])
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    (root / "pictures").mkdir()
    for path in (root / "picture.jpg", root / "pictures" / "one.jpg"):
        Image.fromarray(pixels).save(path)
    return root


def test_there_are_some_of_each_tool_but_those_of_other_files():
    assert {words[1] for words in COMMANDS.values()} >= {
        "demo/demo.py",
        "tools/draw_predictions.py",
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_runs(folder, monkeypatch, command):
    monkeypatch.chdir(folder)
    _, script, *arguments = COMMANDS[command]
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    shutil.rmtree(folder / "predictions", ignore_errors=True)
    before = {path for path in folder.rglob("*") if path.is_file()}
    try:
        runpy.run_path(str(ROOT / script), run_name="__main__")
    except SystemExit as end:
        assert not end.code
    assert {path for path in folder.rglob("*") if path.is_file()} - before
