import numpy as np
import pytest
from detectron2.data.detection_utils import read_image
from PIL import Image

from vfnet.data import check_images
from vfnet.data.checks.pictures import picture_size
from vfnet.data.datasets.shapes import load_shapes
from vfnet.errors import UserError


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


@pytest.mark.parametrize("error", [OSError, SyntaxError, ValueError, Image.DecompressionBombError])
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
