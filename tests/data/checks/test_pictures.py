import os

import cv2
import numpy as np
import pytest
from detectron2.data.detection_utils import read_image
from PIL import Image

from vfnet.data import check_images, read_picture
from vfnet.data.checks.pictures import picture_size
from vfnet.data.datasets.shapes import load_shapes
from vfnet.errors import UserError
from vfnet.utils.pixel_limit import limit_pixels


def make_picture(file, width=20, height=10, orientation=None):
    image = Image.fromarray(np.zeros((height, width, 3), np.uint8))
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    image.save(file, exif=exif)
    return str(file)


def record(file_name, width=20, height=10):
    return {"file_name": file_name, "width": width, "height": height}


def test_right_pictures_pass(tmp_path):
    check_images([record(make_picture(tmp_path / "a.jpg"))])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_size_is_what_detectron2_reads(tmp_path, orientation, suffix):
    file = make_picture(tmp_path / f"a.{suffix}", orientation=orientation)
    height, width = read_image(file).shape[:2]
    assert picture_size(file) == (width, height)
    assert (width, height) == ((10, 20) if orientation > 4 else (20, 10))


def test_a_missing_picture_is_named(tmp_path):
    with pytest.raises(UserError, match=r"1 of 2 pictures.*gone\.jpg is not there"):
        check_images([record(make_picture(tmp_path / "a.jpg")), record(str(tmp_path / "gone.jpg"))])


def test_an_unreadable_picture_is_named(tmp_path):
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(UserError, match=r"text\.jpg cannot be read as a picture"):
        check_images([record(str(tmp_path / "text.jpg"))])


@pytest.mark.parametrize("error", [OSError, SyntaxError, ValueError])
def test_whatever_the_decoder_raises_names_the_picture(tmp_path, monkeypatch, error):
    def fail(*arguments):
        raise error("bad chunk")

    file = make_picture(tmp_path / "a.jpg")
    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(UserError, match=r"a\.jpg cannot be read as a picture \(bad chunk\)"):
        picture_size(file)


def test_another_size_is_named_with_both(tmp_path):
    file = make_picture(tmp_path / "a.jpg")
    with pytest.raises(UserError, match=r"a\.jpg is 20x10, its record says 10x20"):
        check_images([record(file, 10, 20)])


def test_all_are_counted_and_ten_named(tmp_path):
    records = [record(str(tmp_path / f"{i:02}.jpg")) for i in range(12)]
    with pytest.raises(UserError, match=r"12 of 12 .*09\.jpg is not there; and 2 more"):
        check_images(records)


def test_only_the_header_is_read(tmp_path):
    file = tmp_path / "a.jpg"
    make_picture(file, 200, 100)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(OSError, match="truncated"):
        read_image(str(file))
    check_images([record(str(file), 200, 100)])


def test_pictures_that_are_drawn_pass():
    check_images(load_shapes("val")[:5])


GREY = np.arange(200, dtype=np.uint16).reshape(10, 20) * 300
DEEP = {
    "grey.png": (GREY, "I;16"),
    "grey.tif": (GREY, "I;16"),
    "integers.tif": (GREY.astype(np.int32), "I"),
    "floats.tif": (GREY.astype(np.float32) / 65535, "F"),
    "colour.png": (np.stack([GREY] * 3, axis=2), "RGB;16"),
    "colour.tif": (np.stack([GREY] * 3, axis=2), "RGB;16"),
    "alpha.png": (np.stack([GREY] * 4, axis=2), "RGBA;16"),
}


@pytest.mark.parametrize("name", DEEP)
@pytest.mark.parametrize("use", [picture_size, read_picture, lambda f: check_images([record(f)])])
def test_more_than_8_bits_a_channel_are_refused_with_their_mode(tmp_path, name, use):
    pixels, mode = DEEP[name]
    file = str(tmp_path / name)
    if mode == "I":
        Image.fromarray(pixels).save(file)
    else:
        cv2.imwrite(file, pixels)
    with pytest.raises(UserError, match=rf"{name} has pixels of mode {mode}\w*, .* numpy.uint8"):
        use(file)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_every_mode_of_8_bits_passes(tmp_path, mode):
    file = tmp_path / "a.tif"
    Image.new("RGB", (20, 10), "white").convert(mode).save(file)
    check_images([record(str(file))])
    assert (read_picture(str(file)) == 255).all()


def test_16_bits_become_8_by_the_rule_that_the_message_gives(tmp_path):
    file = tmp_path / "a.png"
    Image.fromarray(np.uint8(np.array([[0, 257, 65535]], np.uint16) / 257)).save(file)
    assert read_picture(str(file))[0, :, 0].tolist() == [0, 1, 255]


def test_a_pipe_is_no_picture(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a\.png is no regular file"):
        check_images([record(str(tmp_path / "a.png"))])


@pytest.fixture
def restore_limit(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)


@pytest.mark.parametrize("use", [picture_size, read_picture, lambda f: check_images([record(f)])])
def test_a_picture_is_as_large_as_the_key_allows(tmp_path, restore_limit, use):
    file = make_picture(tmp_path / "a.png")
    limit_pixels(200)
    use(file)
    limit_pixels(198)
    with pytest.raises(
        UserError, match=r"a\.png has 200 pixels, and INPUT.MAX_PIXELS is 198: raise"
    ):
        use(file)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_pictures_are_counted_though_their_size_fits(tmp_path, orientation):
    file = make_picture(tmp_path / "a.jpg", 20, 20, orientation)
    line = check_images([record(file, 20, 20), record(make_picture(tmp_path / "b.jpg"))])
    assert line.startswith("1 pictures are stored turned") == (orientation > 1)
    assert ("a.jpg" in line) == (orientation > 1) and "b.jpg" not in line


def test_a_size_that_the_orientation_swaps_is_explained(tmp_path):
    file = make_picture(tmp_path / "a.jpg", orientation=6)
    with pytest.raises(UserError, match=r"EXIF orientation 6 swaps the sides of the 20x10 that"):
        check_images([record(file)])
    with pytest.raises(UserError) as caught:
        check_images([record(file, 30, 30), record(make_picture(tmp_path / "b.jpg"), 30, 30)])
    assert str(caught.value).count("EXIF") == 1


def test_the_reason_names_no_python_object(tmp_path):
    file = tmp_path / "notes.jpg"
    file.write_text("notes")
    with pytest.raises(UserError, match=r"notes\.jpg: no format that it knows$"):
        read_picture(str(file))
    with pytest.raises(UserError, match=r"nothing\.jpg: No such file or directory$"):
        read_picture(str(tmp_path / "nothing.jpg"))
