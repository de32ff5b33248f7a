import json
import os
import runpy

import cv2
import numpy as np
import pytest
from PIL import Image

from vfnet.errors import UserError


@pytest.fixture
def run(repository, capsys):
    """Run the tool in this process, which has the package loaded already: status, output."""
    tool = runpy.run_path(str(repository / "tools" / "check_dataset.py"))
    config = str(repository / "configs" / "demo" / "bccd_R18.yaml")

    def check(json_file, *words, images=None):
        words = [json_file, images or json_file.parent, "--config-file", config, *words]
        status = tool["main"](tool["get_parser"]().parse_args([str(word) for word in words]))
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    return check


def counts(text):
    """What the first table says, by its words."""
    lines = [line.rsplit(maxsplit=1) for line in text.split("\n\n")[0].splitlines()]
    return {name.strip(): int(count) for name, count in lines}


def rows(text):
    lines = [
        [c.strip() for c in line.split("|")[1:-1]] for line in text.splitlines() if "|" in line
    ]
    return {line[0]: line[1:] for line in lines if line}


def change(file, content):
    file.write_text(json.dumps(content))


def test_a_good_set_is_counted_and_has_status_0(run, make_coco):
    file, _ = make_coco(sizes=((64, 48),) * 3)
    status, text = run(file, "--strict")
    assert status == 0 and "warning" not in text and "error" not in text
    found = counts(text)
    assert (found["pictures"], found["boxes"], found["most objects in a picture"]) == (3, 3, 1)
    assert sum(found.values()) == 3 + 3 + 1
    # objects, pictures, small, medium, large
    assert rows(text)["cell"] == ["1", "1", "1", "0", "0"]
    assert rows(text)["plate"] == ["2", "2", "2", "0", "0"]


def test_what_is_odd_is_a_warning_and_status_1_only_where_strict(run, make_coco):
    file, content = make_coco(sizes=((64, 48),) * 6)
    boxes = [[1, 1, 9, 0], [70, 1, 9, 9], [60, 1, 9, 9], [1, 1, 9, 9], [1, 1, 9, 9], [1, 1, 9, 9]]
    for annotation, box in zip(content["annotations"], boxes):
        annotation["bbox"] = box
    content["annotations"][3]["iscrowd"] = 1
    content["annotations"][5]["image_id"] = 5
    change(file, content)
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.open(file.parent / "4.png").save(file.parent / "4.png", exif=exif)
    (file.parent / "6.png").write_bytes((file.parent / "5.png").read_bytes())
    words = ("--opts", "TEST.DETECTIONS_PER_IMAGE", 1)
    status, text = run(file, *words)
    assert status == 0 and "error" not in text
    assert text.count("\nwarning: ") == 5
    expected = {
        **{"boxes": 6, "boxes without area": 1, "boxes outside": 1, "boxes that stick out": 1},
        **{"boxes of crowds": 1, "pictures turned by EXIF": 1, "most objects in a picture": 2},
        **{"pictures without an object": 4, "pictures with several records": 1},
    }
    assert {name: counts(text)[name] for name in expected} == expected
    for said in (
        "1 pictures are stored turned",
        "2 boxes left out in training (1 empty, 1 outside",
        "1 boxes stick out of their image, clipped in training",
        "1 of 6 pictures hold more objects than are kept",
        "1 pictures have more than one record, by name or content",
    ):
        assert said in text
    assert run(file, "--strict", *words)[0] == 1


def test_what_a_run_refuses_is_an_error_by_kind(run, make_coco):
    file, _ = make_coco(sizes=((64, 48),) * 7)
    root = file.parent
    (root / "1.png").unlink()
    (root / "2.png").write_text("no picture")
    cv2.imwrite(str(root / "3.png"), np.zeros((48, 64), np.uint16))
    Image.new("RGB", (64, 47)).save(root / "4.png")
    Image.new("RGB", (200, 48)).save(root / "5.png")
    (root / "6.png").write_bytes((root / "6.png").read_bytes()[:-2000])
    words = ("--opts", "INPUT.MAX_PIXELS", 64 * 48)
    status, text = run(file, *words)
    assert status == 1 and "error: 5 of 7 pictures cannot be used" in text
    kinds = ("missing", "unreadable", "of 16 bits", "of another size", "too large")
    assert [counts(text)[f"pictures {kind}"] for kind in kinds] == [1, 1, 1, 1, 1]
    status, text = run(file, "--decode", *words)
    assert status == 1 and counts(text)["pictures unreadable"] == 2 and "6.png" in text


def test_a_bad_json_file_is_the_error_of_a_run(run, make_coco):
    file, content = make_coco()
    content["annotations"][0]["category_id"] = 99
    change(file, content)
    with pytest.raises(UserError, match="1 annotations of a category that is not in"):
        run(file)


def test_nothing_to_learn_is_an_error(run, make_coco):
    file, content = make_coco()
    for annotation in content["annotations"]:
        annotation["iscrowd"] = 1
    change(file, content)
    status, text = run(file)
    assert status == 1 and "has a usable box: of 4 boxes 4 are crowds" in text
    content["annotations"] = []
    change(file, content)
    status, text = run(file)
    assert status == 0 and "warning: no annotations" in text


def test_objects_without_a_location_are_counted_at_the_sizes_of_the_config(run, make_coco):
    file, content = make_coco(sizes=((320, 240),) * 4)
    content["annotations"][0]["bbox"] = [9, 9, 6, 6]
    change(file, content)
    status, text = run(file, "--opts", "INPUT.MIN_SIZE_TRAIN", "(240,)")
    assert status == 0 and rows(text)["0 to 8 px"] == ["1", "100.0 %"]
    assert "warning: 1 of 4 objects (25.0 %) have no location that learns them at 240" in text
    # Its finest level has the stride 8; the box holds (12, 12), and twice as large (24, 24).
    assert rows(text)["as configured"] == ["25.0 %"] == rows(text)["ANCHOR_SCALE 4.0"]
    for remedy in ("ATSS_FALLBACK True", "a level P2 (configs/override/p2.yaml)"):
        assert rows(text)[remedy] == ["0.0 %"]
    assert rows(text)["pictures, or slices of them, twice as large"] == ["0.0 %"]
    assert "advice: a level P2 (configs/override/p2.yaml) leaves 0.0 % without" in text
    status, text = run(
        file, *("--opts", "INPUT.MIN_SIZE_TRAIN", "(240,480)", "INPUT.MAX_SIZE_TRAIN", 999)
    )
    assert rows(text)["8 to 16 px"][2:] == ["1", "0.0 %"] and "at 480 (INPUT" not in text


def test_an_export_of_roboflow_says_what_was_put_right(run, make_coco):
    file, content = make_coco()
    content["categories"].insert(0, {"id": 0, "name": "things", "supercategory": "none"})
    for category in content["categories"][1:]:
        category["supercategory"] = "things"
    change(file, content)
    status, text = run(file)
    assert status == 0 and "1 categories that group others and hold no box are left out" in text
    assert "things" not in rows(text)


@pytest.mark.parametrize("names", [("cell", "plate"), tuple(f"a ${i}" for i in range(15))])
def test_the_picture_of_the_sizes(run, make_coco, names):
    file, _ = make_coco(categories=tuple(enumerate(names, start=1)), sizes=((64, 48),) * 30)
    picture = file.parent / "new" / "sizes.png"
    status, text = run(file, "--picture", picture)
    assert status == 0 and f"sizes: {picture}" in text
    pixels = np.asarray(Image.open(picture).convert("RGB")).reshape(-1, 3)
    colours = len(np.unique(pixels, axis=0))
    assert pixels.shape[0] == 1500 * 480 and colours > 10


def test_a_folder_of_pictures_is_wanted(run, make_coco, tmp_path):
    file, _ = make_coco()
    with pytest.raises(UserError, match="gone is not a folder"):
        run(file, images=tmp_path / "gone")
    os.mkfifo(tmp_path / "data.json")
    with pytest.raises(UserError, match=r"data\.json is no regular file"):
        run(tmp_path / "data.json")
