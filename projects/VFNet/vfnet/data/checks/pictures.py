"""Are the pictures of a data set there, and of the size that its records say?"""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from detectron2.utils.file_io import PathManager
from PIL import ExifTags, Image

from ...errors import UserError
from .report import name_first

# What PIL raises for pictures that are damaged, of no known kind, or too large to be meant.
DECODE_ERRORS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)

# Opening a file is waiting, most of all on network drives.
_THREADS = 16
# Exif orientations that swap width and height.
_TURNED = (5, 6, 7, 8)


def check_images(records: list[dict[str, Any]]) -> None:
    """Check that the picture of every record is there, readable and as large as the record says.

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
            f"{len(problems)} of {len(records)} pictures cannot be used: {name_first(problems)} "
            "Fix the files, or take the images out of the data set."
        )


def picture_size(file_name: str) -> tuple[int, int]:
    """Return (width, height) of a picture as Detectron2 reads it: exif orientation applied.

    Raises:
        UserError: the file is missing or has no picture's header.
    """
    try:
        with PathManager.open(file_name, "rb") as file, Image.open(file) as image:
            width, height = image.size
            return (height, width) if _is_turned(image) else (width, height)
    except FileNotFoundError as error:
        raise UserError(f"{file_name} is not there") from error
    except DECODE_ERRORS as error:
        raise UserError(f"{file_name} cannot be read as a picture ({error})") from error


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
