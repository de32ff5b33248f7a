import itertools
import json
import logging
import os

import pytest
from PIL import Image

from vfnet.data.datasets.to_coco import to_coco
from vfnet.data.datasets.yolo import label_folder, read_data_yaml, read_yolo
from vfnet.errors import UserError

CLASSES = ["cat", "dog"]


@pytest.fixture
def folder(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    return tmp_path


def add(folder, name, text=None, size=(64, 48), orientation=1):
    """Write a picture, and its labels unless they are None."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    for kind in ("images", "labels"):
        (folder / kind / name).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(folder / "images" / name, exif=exif)
    if text is not None:
        (folder / "labels" / name).with_suffix(".txt").write_text(text)


def read(folder):
    return read_yolo(folder / "images", folder / "labels", CLASSES)


def test_boxes_by_hand(folder):
    add(folder, "b.png", "1 0.5 0.5 0.25 0.125\n\n0 0.25 0.25 0.5 0.5\n")
    add(folder, "a.png", "0 0.123456 0.5 0.1 0.1")
    content = to_coco(read(folder), CLASSES)
    assert [image["file_name"] for image in content["images"]] == ["a.png", "b.png"]
    assert [a["category_id"] for a in content["annotations"]] == [1, 2, 1]
    assert content["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    first, second, third = (a["bbox"] for a in content["annotations"])
    # 64 x 0.123456 - 3.2 = 4.701184, to a thousandth of a pixel.
    assert first == pytest.approx([4.701, 21.6, 6.4, 4.8], abs=1e-9)
    assert second == [24, 21, 16, 6] and third == [0, 0, 32, 24]


@pytest.mark.parametrize("size", ["-0.0005 0.1", "0.1 -0.0005"])
def test_a_negative_size_is_refused_however_small(folder, size):
    add(folder, "a.png", f"0 0.5 0.5 {size}")
    with pytest.raises(UserError, match=r"a\.txt: 0 0\.5 .* negative"):
        read(folder)


def test_a_polygon_becomes_the_box_around_it(folder):
    add(folder, "a.png", "0 0.25 0.25 0.75 0.25 0.5 1.0")
    (image,) = read(folder)
    assert image.objects[0].box == (16, 12, 48, 48)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_shares_are_of_the_upright_picture(folder, orientation):
    add(folder, "a.jpg", "0 0.5 0.5 1 0.5", orientation=orientation)
    (image,) = read(folder)
    width, height = (48, 64) if orientation > 4 else (64, 48)
    assert (image.width, image.height) == (width, height)
    assert image.objects[0].box == (0, height / 4, width, 3 * height / 4)


def test_pictures_of_every_suffix_and_subfolder_are_read(folder):
    names = ["a.JPG", "b.webp", "c.tiff", "sub/d.bmp", "sub/a.png"]
    for name in names:
        add(folder, name, "0 0.5 0.5 0.5 0.5")
    (folder / "images" / "._a.JPG").write_bytes(b"\0")
    assert [image.file_name for image in read(folder)] == sorted(names)
    assert all(len(image.objects) == 1 for image in read(folder))


def test_an_empty_and_an_absent_file_are_no_object_and_the_absent_ones_are_counted(folder, caplog):
    add(folder, "a.png", "")
    add(folder, "b.png")
    (folder / "labels" / "gone.txt").write_text("0 0.5 0.5 0.5 0.5")
    (folder / "labels" / "classes.txt").write_text("cat\ndog\n")
    with caplog.at_level(logging.WARNING, "vfnet"):
        assert [image.objects for image in read(folder)] == [[], []]
    no_label, no_picture = caplog.messages
    assert no_label.startswith("1 pictures have no label file") and no_label.endswith(": b.png")
    assert no_picture.startswith("1 text files have no picture") and "gone.txt" in no_picture


BAD_LINES = {
    "2 0.5 0.5 0.1 0.1": "there are classes from 0 to 1",
    "-1 0.5 0.5 0.1 0.1": "there are classes from 0 to 1",
    "cat 0.5 0.5 0.1 0.1": "expected a class number and numbers",
    "0 0.5 0.5 0.1": "got 3 numbers",
    "0 0.5 0.5 0.1 0.1 0.93": "got 5 numbers",  # predictions, with a score
    "0 320 240 20 20": "expected shares of the picture, from 0 to 1, not pixels",
    "0 0.5 0.5 nan 0.1": "expected shares",
    "0 0.5 0.5 -0.1 0.1": "expected shares",
}


@pytest.mark.parametrize("line", BAD_LINES)
def test_a_bad_line_is_named_with_its_file(folder, line):
    add(folder, "a.png", f"0 0.5 0.5 0.1 0.1\n{line}\n")
    add(folder, "b.png", "")
    with pytest.raises(UserError, match=rf"1 of 2 .*a\.txt: {line}: .*{BAD_LINES[line]}"):
        read(folder)


def test_bad_files_are_named(folder):
    add(folder, "a.png", "")
    (folder / "labels" / "a.txt").write_bytes(b"\xff\xfe\xff")
    (folder / "images" / "b.png").write_text("no picture")
    add(folder, "c.png")
    os.mkfifo(folder / "labels" / "c.txt")
    with pytest.raises(
        UserError, match=r"3 of 3 .*a\.txt cannot be read.*b\.png cannot be read.*c"
    ):
        read(folder)


def test_a_folder_without_pictures_is_an_error(folder):
    with pytest.raises(UserError, match="images holds no picture"):
        read(folder)


def test_labels_lie_beside_the_last_folder_called_images(tmp_path):
    assert label_folder(tmp_path / "images" / "train") == tmp_path / "labels" / "train"
    assert label_folder(tmp_path / "images" / "images") == tmp_path / "images" / "labels"
    assert label_folder(tmp_path / "train") == tmp_path / "train"


@pytest.mark.parametrize("names", ["[cat, dog]", "{0: cat, 1: dog}", "\n  - cat\n  - dog"])
@pytest.mark.parametrize(
    "places", ["train: images", "path: .\ntrain: [images]", "train: ../images", "train: ./images"]
)
def test_the_yamls_that_exporters_write(folder, names, places):
    (folder / "data.yaml").write_text(f"{places}\nval: images\nnc: 2\nnames: {names}\n")
    data = read_data_yaml(folder / "data.yaml")
    assert data.classes == CLASSES
    assert [split.resolve() for split in data.splits.values()] == [folder / "images"] * 2
    assert list(data.splits) == ["train", "val"]


# Nine names of nine of the one before: 387 million values, written out.
ALIASES = "a: &a [x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in itertools.pairwise("abcdefghi")
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: images", 'needs "names"'),
        ("[1]", "expected keys with values, got list"),
        ("names: {1: cat}", "numbered from 0"),
        ("names: {0: cat, a: dog}", "numbered from 0"),
        ("names: [cat]\ntrain: gone", '"train" is gone, but .*gone is no folder'),
        ("names: [cat]\ntrain: [images, labels]", '"train" has to be one folder'),
        ("names: [", "is not valid yaml"),
        ("names: !!python/object/apply:os.getcwd []", "line 1: the tag .* is not allowed"),
        ("names: " + "[" * 10_000, "values more than 50 deep"),
        ("a: &a [x, x, x]\n" * 2 + "names: *b", "is not valid yaml"),
        (ALIASES + "names: *i", "values with all aliases written out"),
    ],
)
def test_a_yaml_that_cannot_be_meant(folder, text, message):
    (folder / "data.yaml").write_text(text)
    with pytest.raises(UserError, match=rf"data\.yaml.*{message}"):
        read_data_yaml(folder / "data.yaml")


def test_bccd_comes_back_from_yolo_as_it_was(shared, tmp_path):
    source = json.loads((shared / "data" / "bccd" / "val.json").read_text())
    classes = [category["name"] for category in source["categories"]]
    numbers = {category["id"]: i for i, category in enumerate(source["categories"])}
    for image in source["images"]:
        lines = []
        for a in source["annotations"]:
            if a["image_id"] == image["id"]:
                x, y, w, h = a["bbox"]
                shares = ((x + w / 2) / image["width"], (y + h / 2) / image["height"])
                shares = (*shares, w / image["width"], h / image["height"])
                lines.append(
                    " ".join([str(numbers[a["category_id"]]), *(f"{s:.6f}" for s in shares)])
                )
        (tmp_path / image["file_name"]).with_suffix(".txt").write_text("\n".join(lines))
        os.symlink(
            shared / "data" / "bccd" / "images" / image["file_name"], tmp_path / image["file_name"]
        )
    made = to_coco(read_yolo(tmp_path, tmp_path, classes), classes)
    assert len(made["annotations"]) == len(source["annotations"]) == 932
    by_name = {image["id"]: image["file_name"] for image in source["images"]}
    expected = sorted((by_name[a["image_id"]], a["bbox"]) for a in source["annotations"])
    by_name = {image["id"]: image["file_name"] for image in made["images"]}
    found = sorted((by_name[a["image_id"]], a["bbox"]) for a in made["annotations"])
    # Half a millionth of 640 pixels for the centre, as much for the side, and the rounding.
    for (name, box), (expected_name, expected_box) in zip(found, expected):
        assert name == expected_name and box == pytest.approx(expected_box, abs=2e-3)
