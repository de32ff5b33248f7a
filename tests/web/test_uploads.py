"""vfnet.web.uploads: content decides, not the name; what is refused, and that no path is told."""

import io

import numpy as np
import pytest
from PIL import Image

from vfnet.errors import UserError
from vfnet.web.uploads import MOST_MEGAPIXELS, Upload, read_upload

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def upload(tmp_path, content, name="holiday.png"):
    (tmp_path / "0123abcd").write_bytes(content)
    return Upload(str(tmp_path / "0123abcd"), name)


def encoded(image, file_format, **options):
    stream = io.BytesIO()
    image.save(stream, format=file_format, **options)
    return stream.getvalue()


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF", "WEBP"])
def test_content_says_what_a_file_is_whatever_its_name(tmp_path, file_format):
    options = {"lossless": True} if file_format == "WEBP" else {}
    content = encoded(Image.fromarray(PIXELS), file_format, **options)
    np.testing.assert_array_equal(
        read_upload(upload(tmp_path, content, "notes.txt")), PIXELS[:, :, ::-1]
    )


def test_the_two_pictures_of_some_phones_are_the_first(tmp_path):
    second = Image.new("RGB", (9, 9))
    content = encoded(Image.fromarray(PIXELS), "MPO", save_all=True, append_images=[second])
    assert read_upload(upload(tmp_path, content)).shape == PIXELS.shape


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "CMYK"])
def test_pixels_become_three_channels_of_eight_bits(tmp_path, mode):
    file_format = "TIFF" if mode == "CMYK" else "PNG"
    content = encoded(Image.fromarray(PIXELS).convert(mode), file_format)
    pixels = read_upload(upload(tmp_path, content))
    assert (pixels.shape, pixels.dtype) == (PIXELS.shape, np.uint8)


def test_a_picture_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees
    content = encoded(Image.fromarray(PIXELS), "PNG", exif=exif)
    expected = np.rot90(PIXELS, k=3)[:, :, ::-1]
    np.testing.assert_array_equal(read_upload(upload(tmp_path, content)), expected)


def _sixteen_bits():
    return encoded(Image.fromarray(np.zeros((8, 8), np.uint16)), "PNG")


BAD = {
    "text": (b"not a picture", "holiday.png is none, or is damaged"),
    "nothing": (b"", "holiday.png is none, or is damaged"),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "is none, or is damaged"),
    # Pillow would start Ghostscript.
    "eps": (encoded(Image.fromarray(PIXELS), "EPS"), "is none, or is damaged"),
    "cut": (encoded(Image.fromarray(PIXELS), "PNG")[:-3000], "truncated"),
    "deep": (_sixteen_bits(), "8 bits a channel are expected"),
    "large": (encoded(Image.new("1", (13000, 13000)), "PNG"), "this one has 13000 x 13000"),
    "bomb": (encoded(Image.new("1", (30000, 30000)), "PNG"), "this one has many more"),
}


@pytest.mark.parametrize("kind", BAD)
def test_other_files_are_refused_without_telling_where_they_lie(tmp_path, kind):
    content, message = BAD[kind]
    with pytest.raises(UserError, match=message) as caught:
        read_upload(upload(tmp_path, content))
    assert str(tmp_path) not in str(caught.value) and "0123abcd" not in str(caught.value)


def test_the_largest_picture_is_as_the_page_says(tmp_path):
    edge = int((MOST_MEGAPIXELS * 1e6) ** 0.5)
    content = encoded(Image.new("1", (edge, edge)), "PNG")
    assert read_upload(upload(tmp_path, content)).shape == (edge, edge, 3)


def test_names_of_results_are_plain():
    assert Upload("", "my photo.v2.jpg").stem == "my_photo_v2"
    assert Upload("", "../../etc/passwd").stem == "passwd"
    assert Upload("", "名.png").stem == "名"
    assert Upload("", "").stem == "picture"
    assert len(Upload("", "x" * 300 + ".png").stem) == 60
