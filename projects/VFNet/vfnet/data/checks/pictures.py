"""Are the pictures of a data set there, of the size that its records say, and of 8 bits?"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
from detectron2.data.detection_utils import read_image
from detectron2.utils.file_io import PathManager
from PIL import ExifTags, Image

from ...errors import UserError
from ...utils.files import is_special_file
from .report import name_first

# What PIL raises for pictures that are damaged, of no known kind, or too large to be meant.
DECODE_ERRORS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)

# Opening a file is waiting, most of all on network drives.
_THREADS = 16
# Exif orientations that swap width and height.
_TURNED = (5, 6, 7, 8)


def check_images(records: list[dict[str, Any]]) -> None:
    """Check that the picture of every record is usable (`picture_size`) and as large as it says.

    Only headers are read; a picture that is truncated behind its header shows when it is decoded.

    Args:
        records: dataset dicts of Detectron2.

    Raises:
        UserError: all bad pictures are counted, the first ten named.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        problems = [problem for problem in pool.map(_find_problem, records) if problem]
    if problems:
        raise UserError(
            f"{len(problems)} of {len(records)} pictures cannot be used: {name_first(problems)}. "
            "Fix the files, or take the images out of the data set"
        )


def picture_size(file_name: str) -> tuple[int, int]:
    """Return (width, height) of a picture as Detectron2 reads it: exif orientation applied.

    Raises:
        UserError: the file is missing or has no picture's header; as `open_picture`.
    """
    try:
        with open_picture(file_name) as image:
            width, height = image.size
            return (height, width) if _is_turned(image) else (width, height)
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{file_name} is not there") from error
    except DECODE_ERRORS as error:
        raise UserError(f"{file_name} cannot be read as a picture ({error})") from error


def read_picture(file_name: str, image_format: str = "BGR") -> np.ndarray:
    """Return (H, W, 3) uint8, turned upright as the picture's exif data says.

    Raises:
        UserError: the file is missing or damaged; as `open_picture`.
    """
    try:
        with open_picture(file_name):
            return read_image(file_name, format=image_format)
    except UserError:
        raise
    except DECODE_ERRORS as error:
        raise UserError(f"expected a picture that Pillow can read: {file_name}: {error}") from error


@contextmanager
def open_picture(file_name: str) -> Iterator[Image.Image]:
    """Open a picture of 8 bits a channel; only its header is read.

    Detectron2 would clip other pixels to 0..255 (16-bit grey becomes white, floats of 0..1 black)
    or cut their lower bits off. 16-bit colour of PPM and JPEG 2000 passes: these say their range.

    Raises:
        UserError: more bits than 8; not a regular file, as a pipe that may never end.
        DECODE_ERRORS: the file is missing or has no picture's header.
    """
    if is_special_file(file_name):
        raise UserError(f"{file_name} is no regular file")
    with PathManager.open(file_name, "rb") as file, Image.open(file) as image:
        check_depth(image, file_name)
        yield image


def check_depth(image: Image.Image, name: str) -> None:
    """Raise a UserError, which calls the picture `name`, for more than 8 bits a channel."""
    if mode := _deep_mode(image):
        raise UserError(
            f"{name} has pixels of mode {mode}, where 8 bits a channel are expected: "
            "convert all such pictures to 8 bits by one rule, for example "
            "numpy.uint8(pixels / 257) where their range is 0 to 65535"
        )


def _deep_mode(image: Image.Image) -> str:
    """Return Pillow's mode of pixels of more than 8 bits a channel, "" for others."""
    if image.mode.startswith(("I", "F")):
        return image.mode
    # 16 bits in colour have no mode of their own: they stand in what the decoder is told.
    tile = getattr(image, "tile", None)
    arguments = tile[0][3] if tile else None
    raw = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return raw if isinstance(raw, str) and ";16" in raw else ""


def _find_problem(record: dict[str, Any]) -> str | None:
    try:
        size = picture_size(record["file_name"])
    except UserError as error:
        return str(error)
    expected = (record.get("width", size[0]), record.get("height", size[1]))
    if size == expected:
        return None
    return (
        f"{os.fspath(record['file_name'])} is {size[0]}x{size[1]}, "
        f"its record says {expected[0]}x{expected[1]}"
    )


def _is_turned(image: Image.Image) -> bool:
    # A PNG's exif may follow its pixels: looking for it would decode the picture.
    if image.format == "PNG" and "exif" not in image.info:
        return False
    return image.getexif().get(ExifTags.Base.Orientation) in _TURNED
