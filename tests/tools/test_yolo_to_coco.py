import json
import runpy

import pytest
from PIL import Image

from vfnet.errors import UserError


@pytest.fixture
def run(repository):
    """Run the tool in this process, which has the package loaded already."""
    tool = runpy.run_path(str(repository / "tools" / "yolo_to_coco.py"))
    return lambda *words: tool["main"](tool["get_parser"]().parse_args([str(w) for w in words]))


@pytest.fixture
def data(tmp_path):
    for split, count in (("train", 3), ("valid", 2)):
        for kind in ("images", "labels"):
            (tmp_path / split / kind).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (60, 40)).save(tmp_path / split / "images" / f"{i}.png")
            (tmp_path / split / "labels" / f"{i}.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    # As Roboflow writes it.
    (tmp_path / "data.yaml").write_text(
        "train: ../train/images\nval: ../valid/images\nnc: 2\nnames: ['cat', 'dog']\n"
    )
    return tmp_path


def test_a_data_yaml_becomes_a_file_for_each_split(run, data, capsys):
    run("--data", data / "data.yaml", "--output", data / "coco")
    out = capsys.readouterr().out
    for split, folder, count in (("train", "train", 3), ("val", "valid", 2)):
        content = json.loads((data / "coco" / f"{split}.json").read_text())
        assert len(content["images"]) == len(content["annotations"]) == count
        assert content["annotations"][0]["bbox"] == [15, 10, 30, 20]
        assert [c["name"] for c in content["categories"]] == ["cat", "dog"]
        assert f"{data / 'coco' / split}.json: {count} images, {count} boxes" in out
        assert f"its pictures: {data / folder / 'images'}" in out


def test_a_folder_becomes_a_file_or_two(run, data):
    images = data / "train" / "images"
    run("--images", images, "--classes", "cat, dog", "--output", data / "all.json")
    assert len(json.loads((data / "all.json").read_text())["images"]) == 3
    run("--images", images, "--classes", "cat,dog", "--split", 0.6, "--output", data / "both")
    parts = [json.loads((data / "both" / f"{s}.json").read_text()) for s in ("train", "val")]
    assert [len(part["images"]) for part in parts] == [2, 1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--images", "train/images"], "--images needs --classes"),
        (["--images", "gone", "--classes", "a"], "gone is not a folder"),
        (["--data", "data.yaml", "--classes", "a"], "go with --images"),
        (["--data", "gone.yaml"], "gone.yaml is no file"),
        (["--images", "train/images", "--classes", "a", "--split", "3"], "0 to 1; got 3"),
    ],
)
def test_what_cannot_be_meant(run, data, monkeypatch, words, message):
    monkeypatch.chdir(data)
    with pytest.raises(UserError, match=message):
        run(*words, "--output", "out")
    assert not (data / "out").exists()
