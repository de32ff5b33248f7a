"""tools/scaling.py: one table from a measured step, another from supposed ones."""

import importlib.util
import json

import pytest

from vfnet.errors import UserError

# Of vfnet_R50_1x, as tests/test_models.py has them.
PARAMETERS = 32_891_554


def load(path):
    spec = importlib.util.spec_from_file_location(f"{path.stem}_under_test", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tool(repository):
    return load(repository / "tools" / "scaling.py")


@pytest.fixture
def arguments(repository):
    return ["--config-file", str(repository / "tests" / "engine" / "tiny.yaml"), "--gigabits", "8"]


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def lines_of(printed):
    return [cells(line) for line in printed.splitlines() if line.startswith("|")]


def test_the_gradient_is_that_of_the_parameters_that_train(tool, repository):
    path = str(repository / "configs" / "vfnet_R50_1x.yaml")
    # Frozen are the stem and res2, whose first block has a shortcut of 1x1, with all their norms.
    stem = 7 * 7 * 3 * 64
    res2 = 64 * 64 + 64 * 256 + 2 * 256 * 64 + 3 * 3 * 3 * 64 * 64 + 3 * 64 * 256
    norms = 2 * (64 + 3 * (64 + 64 + 256) + 256)
    assert tool.gradient_bytes(tool.load_config(path)) == 4 * (PARAMETERS - stem - res2 - norms)


def test_measured(tool, arguments, tmp_path, capsys):
    parts = {"backward": {"median": 0.3}, "whole training step": {"median": 0.5}}
    report = {
        "settings": {"batch": 2, "config_file": "elsewhere/tiny.yaml"},
        "training": {
            "seconds": {"results": {"tiny": parts}},
            "bytes": {"results": {"tiny": {"whole training step": 2**30}}},
        },
    }
    path = tmp_path / "step.json"
    path.write_text(json.dumps(report))
    tool.main([*arguments, "--measured", str(path), "--workers", "1", "8", "--loader-rate", "3"])
    printed = capsys.readouterr().out
    assert "0.5 s a step, 0.3 s of it backward, with 2 images" in printed
    assert "Memory of each worker: 1.0" in printed
    header, _, one, eight = lines_of(printed)
    assert one[:5] == ["1", "2", "0.005", "6", "0 ms"]
    assert eight[:4] == ["8", "16", "0.04", "1"]
    alone = dict(zip(header, one))
    assert (alone["images/s"], alone["of ideal"], alone["loaders each"]) == ("4", "100.0%", "2")

    report["settings"]["config_file"] = "configs/vfnet_R50_1x.yaml"
    path.write_text(json.dumps(report))
    with pytest.raises(UserError, match=r"is of configs/vfnet_R50_1x.yaml, not of .*tiny.yaml"):
        tool.main([*arguments, "--measured", str(path)])


def test_what_the_benchmark_writes_is_understood(tool, arguments, repository, tmp_path, capsys):
    path = tmp_path / "step.json"
    words = ["--device", "cpu", "--repeats", "1", "--warm-up", "0", "--no-memory", "--batch", "2"]
    benchmark = load(repository / "tools" / "benchmark.py")
    benchmark.main([*arguments[:2], *words, "--output", str(path)])
    tool.main([*arguments, "--measured", str(path)])
    parts = json.loads(path.read_text())["training"]["seconds"]["results"]["tiny"]
    seconds, backward = parts["whole training step"]["median"], parts["backward"]["median"]
    measured = f"{seconds:.4g} s a step, {backward:.4g} s of it backward, with 2 images"
    assert measured in capsys.readouterr().out


def test_supposed(tool, arguments, capsys):
    tool.main([*arguments, "--step-seconds", "0.5", "1", "--workers", "8"])
    header, _, *rows = lines_of(capsys.readouterr().out)
    assert header == ["a step", "8: alone / best hidden"]
    assert [row[0] for row in rows] == ["0.5 s", "1 s"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--step-seconds", "0"], "must be greater than 0"),
        (["--step-seconds", "1", "--workers", "0"], "must be greater than 0"),
        (["--measured", "none.json"], "none.json cannot be read as json"),
    ],
)
def test_wrong_arguments_are_named(tool, arguments, words, message):
    with pytest.raises(UserError, match=message):
        tool.main([*arguments, *words])
