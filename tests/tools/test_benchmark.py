"""tools/benchmark.py: every phase has its row, in the tables and in the json."""

import importlib.util
import json

import pytest

from lib.models import build_batch
from tests.command import run_python
from vfnet.errors import UserError

INFERENCE = [
    *("preprocessing", "backbone", "neck", "backbone and neck", "head", "post-processing"),
    *("whole inference", "images a second"),
]
FORWARD = ["preprocessing", "backbone", "neck", "head", "assignment", "losses"]
TRAINING = [
    *("preprocessing", "backbone", "neck", "backbone and neck", "head", "assignment", "losses"),
    *("assignment and losses", "forward", "backward", "optimizer", "whole training step"),
    "images a second",
]


@pytest.fixture
def tool(repository):
    path = repository / "tools" / "benchmark.py"
    spec = importlib.util.spec_from_file_location("benchmark_tool", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def arguments(repository):
    config = str(repository / "tests" / "engine" / "tiny.yaml")
    return ["--config-file", config, "--device", "cpu", "--repeats", "2", "--warm-up", "1"]


def rows_of(printed, title):
    """First cells of the table below a heading."""
    lines = printed.split(f"## {title}")[1].split("##")[0].splitlines()
    cells = [line.split("|")[1].strip() for line in lines if line.startswith("|")]
    return cells[2:]


def test_every_phase_is_printed_and_written(tool, arguments, tmp_path, capsys):
    output = tmp_path / "out.json"
    more = ["--data", "--workers", "0", "--batches", "1", "--no-memory", "--output", str(output)]
    tool.main([*arguments, "--batch", "2", *more, "--opts", "MODEL.VFNET.NUM_CLASSES", "5"])
    printed = capsys.readouterr().out
    assert "2 pictures of 96x128, 30 boxes each, float32" in printed
    assert rows_of(printed, "Inference, time") == INFERENCE
    assert rows_of(printed, "Training, time") == TRAINING
    assert rows_of(printed, "Data") == ["an image", "images a second"]

    content = json.loads(output.read_text())
    assert content["settings"]["image_size"] == [96, 128]
    assert content["settings"]["opts"] == ["MODEL.VFNET.NUM_CLASSES", "5"]
    for phase, parts in {"inference": INFERENCE, "training": TRAINING}.items():
        seconds = content[phase]["seconds"]
        results = seconds["results"]["tiny"]
        assert list(results) == parts
        assert results["images a second"] == pytest.approx(2 / results[parts[-2]]["median"])
        assert all(len(values) == 2 for values in seconds["samples"]["tiny"].values())
    samples = content["training"]["seconds"]["samples"]["tiny"]
    forward = sum(samples[part][0] for part in FORWARD)
    assert samples["forward"][0] == pytest.approx(forward)
    data = content["data"]["results"]["0 workers"]
    assert data["images a second"] == pytest.approx(1 / data["an image"]["median"])


def test_memory_is_that_of_a_process_of_its_own(tool, arguments, tmp_path, capsys):
    output = tmp_path / "out.json"
    tool.main([*arguments, "--no-train", "--image-size", "256x256", "--output", str(output)])
    assert rows_of(capsys.readouterr().out, "Inference, peak") == ["process before", INFERENCE[-2]]
    content = json.loads(output.read_text())
    assert "training" not in content
    peaks = content["inference"]["bytes"]["results"]["tiny"]
    assert 2**26 < peaks["process before"] < peaks["whole inference"]


def test_another_model_of_a_yaml_stands_beside(tool, arguments, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text(f'_BASE_: "{arguments[1]}"\nMODEL: {{VFNET: {{DEFORM_LAST_CONV: True}}}}\n')
    output = tmp_path / "out.json"
    options = ["--no-train", "--no-memory", "--output", str(output)]
    tool.main([*arguments, *options, "--compare", str(other)])
    results = json.loads(output.read_text())["inference"]["seconds"]["results"]
    assert list(results) == ["tiny", "other"]


def test_other_ways_stand_beside_the_plain_one(tool, arguments, tmp_path, capsys):
    output = tmp_path / "out.json"
    # "eager" runs the graphs as they are and needs no compiler.
    more = ["--compile", "eager", "--half", "bfloat16", "--no-memory", "--output", str(output)]
    tool.main([*arguments, *more])
    printed = capsys.readouterr().out
    assert rows_of(printed, "Inference, time") == INFERENCE
    content = json.loads(output.read_text())
    results = content["inference"]["seconds"]["results"]
    assert list(results) == ["tiny", "tiny, bfloat16", "tiny, eager"]
    # A graph has no inside.
    assert set(INFERENCE) - set(results["tiny, eager"]) == {"backbone", "neck"}
    found = content["inference"]["agreement"]["tiny, eager"]
    assert found["matched"] == found["expected"] == found["found"] > 10
    assert f"{found['found']} detections for {found['expected']}" in printed
    in_half = content["inference"]["agreement"]["tiny, bfloat16"]
    assert in_half["expected"] == found["expected"]
    assert in_half["score"] > 1e-4 > found["score"]
    assert list(content["training"]["seconds"]["results"]) == ["tiny"]


@pytest.mark.parametrize("script", ["tools/benchmark.py", "benchmarks/planes.py"])
def test_what_scripts_share_is_found_from_any_folder(script, repository, tmp_path):
    done = run_python(repository / script, "--help", cwd=tmp_path, fresh=True)
    assert done.returncode == 0, done.stderr
    assert "--repeats" in done.stdout


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--precision", "float16"], "float16 needs a GPU"),
        (["--batch", "0"], "--batch must be at least 1, got 0"),
        (["--device", "tpu"], "--device must be cpu or cuda, got 'tpu'"),
        (["--cuda-graphs"], "--cuda-graphs needs --device cuda, got --device cpu"),
        (["--half", "float16"], "float16 needs a GPU"),
        (["--half", "bfloat16", "--precision", "bfloat16"], "--half must differ"),
        (["--compile", "bfloat16"], "--compile takes no precision"),
        (["--compile", "tvmm"], "one of .*inductor.* got 'tvmm'"),
        (["--compare", "yolo"], "retinanet or the path of a yaml, got yolo"),
        (["--image-size", "800"], "expected a size as HxW"),
        (["--image", "none.jpg"], "--image none.jpg cannot be read"),
        (["--data", "--opts", "DATASETS.TRAIN", "('nothing',)"], '"nothing" is not a registered'),
    ],
)
def test_wrong_arguments_are_named(tool, arguments, wrong, message):
    with pytest.raises(UserError, match=message):
        tool.main([*arguments, *wrong])


def test_a_picture_takes_the_place_of_random_ones(tool, arguments, repository):
    picture = repository / "docs" / "bccd_predictions.jpg"
    args = tool.parse_arguments([*arguments, "--image", str(picture), "--image-size", "64x96"])
    (record,) = build_batch(tool.read_workload(args))
    assert record["image"].shape == (3, 64, 96)
    assert (record["height"], record["width"]) == (64, 96)
    assert len(record["image"].unique()) > 100
