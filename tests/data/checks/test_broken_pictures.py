"""Sixteen kinds of broken pictures: one clear line each, wherever pictures are read."""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

import vfnet
from vfnet.data import build_mapper, check_images, read_picture
from vfnet.data.sources import read_pictures
from vfnet.errors import UserError

SIZE = (64, 48)


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, pixels=b"", colour=2):
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    body = png_chunk(b"IDAT", zlib.compress(pixels)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + body


def write(path, raw):
    path.write_bytes(raw)


def whole(path):
    """Draw something that does not compress away; return its bytes."""
    pixels = np.random.RandomState(0).randint(0, 255, (SIZE[1], SIZE[0], 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return path.read_bytes()


def flipped(raw, place):
    return raw[:place] + bytes([raw[place] ^ 0x40]) + raw[place + 1 :]


KINDS = {
    "absent": ("a.jpg", lambda path: None),
    "empty": ("a.jpg", lambda path: write(path, b"")),
    "text": ("a.jpg", lambda path: write(path, b"<html>not found</html>")),
    "zeros": ("a.png", lambda path: write(path, bytes(5000))),
    "folder": ("a.jpg", lambda path: path.mkdir()),
    "pipe": ("a.jpg", lambda path: os.mkfifo(path)),
    "dangling link": ("a.jpg", lambda path: path.symlink_to("gone")),
    "header alone": ("a.jpg", lambda path: write(path, whole(path)[:20])),
    "truncated jpeg": ("a.jpg", lambda path: write(path, whole(path)[:-1000])),
    "truncated png": ("a.png", lambda path: write(path, whole(path)[:-1000])),
    # In its width; Pillow does not see one in the middle of the pixels.
    "flipped bit in a png": ("a.png", lambda path: write(path, flipped(whole(path), 18))),
    "png without pixels": ("a.png", lambda path: write(path, png(*SIZE))),
    "png of no width": ("a.png", lambda path: write(path, png(0, 48))),
    "png of 2 gigapixels": ("a.png", lambda path: write(path, png(50_000, 50_000))),
    "16 bits": ("a.png", lambda path: Image.new("I;16", SIZE).save(path)),
    "truncated tiff": ("a.tif", lambda path: write(path, whole(path)[:3000])),
}


@pytest.fixture(params=KINDS)
def broken(request, tmp_path):
    name, make = KINDS[request.param]
    make(tmp_path / name)
    return tmp_path / name


def one_line(error):
    return "a." in str(error) and "\n" not in str(error)


def test_there_are_sixteen():
    assert len(KINDS) == 16


@pytest.mark.parametrize("is_train", [True, False])
def test_training_and_evaluation_name_it(broken, is_train):
    record = {"file_name": str(broken), "width": SIZE[0], "height": SIZE[1], "annotations": []}
    with pytest.raises(UserError) as caught:
        check_images([record])  # before the run; what only the pixels show, while it runs
        build_mapper(vfnet.get_cfg(), is_train)(record)
    assert one_line(caught.value)


def test_the_demo_names_it_and_goes_on(broken, tmp_path):
    good = tmp_path / "good.png"
    whole(good)
    left_out = []
    found = read_pictures([broken, good], lambda name, error: left_out.append((name, error)))
    assert [picture.image.shape for picture in found] == [(SIZE[1], SIZE[0], 3)]
    ((name, error),) = left_out
    assert name == str(broken) and one_line(error)


def test_python_names_it(broken):
    with pytest.raises(UserError) as caught:
        read_picture(str(broken))
    assert one_line(caught.value)
