"""Are the pictures of a data set there, of the size that their records say, and of 8 bits?"""

import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from detectron2.data.detection_utils import read_image
from detectron2.utils.file_io import PathManager
from PIL import ExifTags, Image, UnidentifiedImageError

from ...errors import UserError
from ...utils.files import is_special_file
from .report import name_first

# What PIL raises for pictures that are damaged, of no known kind, or too large to be meant.
DECODE_ERRORS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)

# Opening a file is waiting, most of all on network drives.
_THREADS = 16
# Exif orientations other than 1, upright; from 5 on they swap width and height.
_TURNED, _SWAPPED = range(2, 9), range(5, 9)


class PictureError(UserError):
    """A picture that cannot be used; `kind` says why in a word or two, for counting."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple:
        # A loader's worker hands it over.
        return PictureError, (self.kind, str(self))


class Inspection(NamedTuple):
    """What the headers of a data set's pictures say."""

    problems: list[PictureError]
    turned: list[str]  # names of pictures with an exif orientation other than upright


def check_images(records: Sequence[dict[str, Any]], skip: bool = False) -> str:
    """Check that the picture of every record is usable (`picture_size`) and as large as it says.

    Only headers are read; a picture that is truncated behind its header shows when it is decoded.

    Args:
        records: dataset dicts of Detectron2.
        skip: bad pictures are no error, unless all are.

    Returns:
        which pictures are bad, and how many pictures are turned by their exif data; "" for none.

    Raises:
        UserError: all bad pictures are counted, the first ten named.
    """
    problems, turned = inspect_pictures(records)
    lines = [describe_problems(problems, len(records))] if problems else []
    if len(problems) == len(records) > 0:
        raise UserError(lines[0])
    if problems and not skip:
        raise UserError(f"{lines[0]}; DATASETS.ON_BAD_IMAGE skip goes on without them")
    return ". ".join(filter(None, [*lines, describe_turned(turned)]))


def inspect_pictures(records: Sequence[dict[str, Any]], decode: bool = False) -> Inspection:
    """Read the headers of the pictures of dataset dicts; with `decode` all their pixels too."""
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(lambda record: _inspect(record, decode), records))
    return Inspection(
        [item for item in found if isinstance(item, PictureError)],
        [str(r["file_name"]) for r, item in zip(records, found) if item in _TURNED],
    )


def describe_problems(problems: Sequence[PictureError], count: int) -> str:
    """Say which of `count` pictures cannot be used."""
    named = name_first([str(problem) for problem in problems])
    return (
        f"{len(problems)} of {count} pictures cannot be used: {named}. Fix the files, or take the "
        "images out of the data set"
    )


def describe_turned(names: Sequence[str]) -> str:
    """Say which pictures have an exif orientation; "" for none."""
    if not names:
        return ""
    return (
        f"{len(names)} pictures are stored turned or mirrored and shown upright by their EXIF "
        "orientation. They are read upright, so their boxes have to be those of the upright "
        f"picture: {name_first(names)}"
    )


def picture_size(file_name: str) -> tuple[int, int]:
    """Return (width, height) of a picture as Detectron2 reads it: exif orientation applied.

    Raises:
        PictureError: the file is missing or has no picture's header; as `open_picture`.
    """
    return _read_header(file_name)[0]


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
        raise UserError(
            f"expected a picture that Pillow can read: {file_name}: {_reason(error)}"
        ) from error


def _reason(error: Exception) -> str:
    """What an error of DECODE_ERRORS says beside the file's name."""
    if isinstance(error, UnidentifiedImageError):  # its text has the name as a Python object
        return "no format that it knows"
    return getattr(error, "strerror", None) or str(error)


@contextmanager
def open_picture(file_name: str) -> Iterator[Image.Image]:
    """Open a picture of 8 bits a channel; only its header is read.

    Detectron2 would clip other pixels to 0..255 (16-bit grey becomes white, floats of 0..1 black)
    or cut their lower bits off. 16-bit colour of PPM and JPEG 2000 passes: these say their range.

    Raises:
        PictureError: more bits than 8; more pixels than INPUT.MAX_PIXELS; not a regular file,
            as a pipe that may never end.
        DECODE_ERRORS: the file is missing or has no picture's header.
    """
    if is_special_file(file_name):
        raise PictureError("unreadable", f"{file_name} is no regular file")
    with PathManager.open(file_name, "rb") as file, _open(file, file_name) as image:
        check_depth(image, file_name)
        yield image


def check_depth(image: Image.Image, name: str) -> None:
    """Raise a UserError, which calls the picture `name`, for more than 8 bits a channel."""
    if mode := _deep_mode(image):
        raise PictureError(
            "16 bits",
            f"{name} has pixels of mode {mode}, where 8 bits a channel are expected: "
            "convert all such pictures to 8 bits by one rule, for example "
            "numpy.uint8(pixels / 257) where their range is 0 to 65535",
        )


def _open(file: Any, name: str) -> Image.Image:
    try:
        return Image.open(file)
    except Image.DecompressionBombError as error:
        pixels, limit = re.findall(r"\d+", str(error))[:2]
        raise PictureError(
            "too large",
            f"{name} has {pixels} pixels, and INPUT.MAX_PIXELS is {limit}: raise it where "
            "the memory suffices, or cut such pictures into slices",
        ) from None


def _deep_mode(image: Image.Image) -> str:
    """Return Pillow's mode of pixels of more than 8 bits a channel, "" for others."""
    if image.mode.startswith(("I", "F")):
        return image.mode
    # 16 bits in colour have no mode of their own: they stand in what the decoder is told.
    tile = getattr(image, "tile", None)
    arguments = tile[0][3] if tile else None
    raw = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return raw if isinstance(raw, str) and ";16" in raw else ""


def _inspect(record: dict[str, Any], decode: bool) -> PictureError | int:
    """What is wrong with a record's picture, else its exif orientation."""
    try:
        size, orientation = _read_header(record["file_name"], decode)
    except PictureError as error:
        return error
    expected = (record.get("width", size[0]), record.get("height", size[1]))
    if size == expected:
        return orientation
    text = (
        f"{os.fspath(record['file_name'])} is {size[0]}x{size[1]}, "
        f"its record says {expected[0]}x{expected[1]}"
    )
    if orientation in _SWAPPED:
        text += (
            f" (its EXIF orientation {orientation} swaps the sides of the {size[1]}x{size[0]} that "
            "are stored; pictures are read upright, as viewers show them. If the boxes belong to "
            "the upright picture, correct the record; if to the stored one, remove the orientation "
            "from the file, for example by exiftool -Orientation= FILE)"
        )
    return PictureError("of another size", text)


def _read_header(file_name: str, decode: bool = False) -> tuple[tuple[int, int], int]:
    """Return (width, height) of a picture once upright, and its exif orientation (1: upright)."""
    try:
        with open_picture(file_name) as image:
            orientation = _orientation(image)
            width, height = image.size
            if decode:
                image.load()
            return ((height, width) if orientation in _SWAPPED else (width, height)), orientation
    except UserError:
        raise
    except FileNotFoundError as error:
        raise PictureError("missing", f"{file_name} is not there") from error
    except DECODE_ERRORS as error:
        text = f"{file_name} cannot be read as a picture ({error})"
        raise PictureError("unreadable", text) from error


def _orientation(image: Image.Image) -> int:
    # A PNG's exif may follow its pixels: looking for it would decode the picture.
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    return image.getexif().get(ExifTags.Base.Orientation, 1)
