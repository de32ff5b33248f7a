import json
import runpy
from xml.sax.saxutils import escape

import pytest
from PIL import Image

from tests.command import run_python
from vfnet.errors import UserError


def run(repository, *arguments):
    """Run the tool in this process, which has the package loaded already."""
    tool = runpy.run_path(str(repository / "tools" / "voc_to_coco.py"))
    tool["main"](tool["get_parser"]().parse_args([str(a) for a in arguments]))


def write_xml(file, image, objects):
    items = "".join(
        f"<object><name>{escape(name)}</name><bndbox><xmin>{x}</xmin><ymin>{y}</ymin>"
        f"<xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>"
        for name, (x, y, w, h) in objects
    )
    file.write_text(
        f"<annotation><filename>{escape(image['file_name'])}</filename><size>"
        f"<width>{image['width']}</width><height>{image['height']}</height></size>"
        f"{items}</annotation>"
    )


def test_one_file_from_one_folder(repository, tmp_path, capsys):
    Image.new("RGB", (60, 40)).save(tmp_path / "a.png")
    image = {"file_name": "a.png", "width": 60, "height": 40}
    write_xml(tmp_path / "a.xml", image, [("cat", (1, 2, 10, 20)), ("dog", (5, 5, 4, 4))])
    output = tmp_path / "out" / "all.json"
    run(repository, "--annotations", tmp_path, "--images", tmp_path, "--output", output)
    assert capsys.readouterr().out == f"{output}: 1 images, 2 boxes\n"
    content = json.loads(output.read_text())
    assert [c["name"] for c in content["categories"]] == ["cat", "dog"]
    assert content["annotations"][0]["bbox"] == [1, 2, 10, 20]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "."], "is a folder; without --split it is a json file"),
        (["--output", "all.json", "--split", "0.8"], "is a json file; with --split it is a folder"),
        (["--output", "out", "--split", "80"], "share of training images, 0 to 1; got 80"),
    ],
)
def test_an_output_that_cannot_be_meant(repository, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        run(repository, "--annotations", tmp_path, "--images", tmp_path, *arguments)
    assert not list(tmp_path.iterdir())


def test_an_error_is_one_line_and_overwrites_nothing(repository, tmp_path):
    output = tmp_path / "all.json"
    output.write_text("old")
    (tmp_path / "a.xml").write_text("<annotation>")
    tool = repository / "tools" / "voc_to_coco.py"
    folders = ("--annotations", tmp_path, "--images", tmp_path)
    result = run_python(tool, *folders, "--output", output)
    assert result.returncode == 1 and output.read_text() == "old"
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ") and "a.xml is not whole xml" in line


def test_a_place_that_cannot_be_written_is_an_error_in_one_line(repository, tmp_path):
    Image.new("RGB", (60, 40)).save(tmp_path / "a.png")
    image = {"file_name": "a.png", "width": 60, "height": 40}
    write_xml(tmp_path / "a.xml", image, [("cat", (1, 2, 10, 20))])
    output = tmp_path / "a.xml" / "all.json"
    with pytest.raises(UserError, match="a.xml"):
        run(repository, "--annotations", tmp_path, "--images", tmp_path, "--output", output)


def test_bccd_comes_back_from_voc_as_it_was(repository, shared, tmp_path):
    folder = shared / "data" / "bccd"
    expected = {s: json.loads((folder / f"{s}.json").read_text()) for s in ("train", "val")}
    for content in expected.values():
        names = {c["id"]: c["name"] for c in content["categories"]}
        objects = {image["id"]: [] for image in content["images"]}
        for a in content["annotations"]:
            objects[a["image_id"]].append((names[a["category_id"]], a["bbox"]))
        for image in content["images"]:
            file = tmp_path / image["file_name"].replace(".jpg", ".xml")
            write_xml(file, image, objects[image["id"]])

    arguments = ["--annotations", tmp_path, "--images", folder / "images", "--split", 0.8]
    arguments += ["--classes", "RBC,WBC,Platelets", "--output", tmp_path / "json"]
    run(repository, *arguments)
    for split, content in expected.items():
        made = json.loads((tmp_path / "json" / f"{split}.json").read_text())
        assert made["images"] == content["images"]
        assert made["annotations"] == content["annotations"]
