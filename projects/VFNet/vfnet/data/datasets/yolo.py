"""YOLO's folders, as Ultralytics reads them: a text file for each picture, boxes as shares of it.

https://docs.ultralytics.com/datasets/detect/
"""

import logging
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import UserError
from ...utils.files import is_special_file
from ...utils.yaml_files import read_plain_yaml
from ..checks.pictures import picture_size
from ..checks.report import name_first
from ..file_names import is_picture
from .to_coco import LabelledImage, LabelledObject

logger = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
# Six decimals of a share are some thousandths of a pixel.
_DECIMALS = 3
_TOLERANCE = 1e-3


class YoloData(NamedTuple):
    """What a data.yaml says."""

    classes: list[str]
    splits: dict[str, Path]  # "train", "val", "test", as far as they are there: folder of pictures


def read_data_yaml(file: Path) -> YoloData:
    """Read classes and folders. A folder is relative to "path", that to the yaml's own folder.

    Raises:
        UserError: it is no such file; a split is no folder.
    """
    if not file.is_file():
        raise UserError(f"{file} is no file; expected the data.yaml of a YOLO data set")
    content = read_plain_yaml(str(file))
    names = content.get("names")
    if isinstance(names, dict) and sorted(names, key=str) == sorted(range(len(names)), key=str):
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        raise UserError(
            f'{file} needs "names": the classes as a list, or numbered from 0 without a gap'
        )
    root = file.parent / str(content.get("path") or "")
    given = {split: content[split] for split in SPLITS if content.get(split)}
    return YoloData(
        [str(name) for name in names],
        {split: _split_folder(file, root, split, value) for split, value in given.items()},
    )


def label_folder(images: Path) -> Path:
    """Where the labels of a folder of pictures lie: its last part called "images" is "labels"."""
    parts = list(images.absolute().parts)
    for index in reversed(range(len(parts))):
        if parts[index] == "images":
            return Path(*parts[:index], "labels", *parts[index + 1 :])
    return images


def read_yolo(images: Path, labels: Path, classes: Sequence[str]) -> list[LabelledImage]:
    """Read the pictures of a folder and of its subfolders, and the text files with their boxes.

    A line is a class, counted from 0, and the box's centre, width and height as shares of the
    picture as it is shown (exif orientation applied), or the corners of a polygon, which becomes
    the box around it. A picture whose file is empty or absent has no object; the absent ones are
    counted in one log line, and so are text files without a picture.

    Args:
        images: the folder of the pictures.
        labels: the folder of the text files, with the same subfolders.
        classes: the names of the classes.

    Returns:
        the images, sorted by file name.

    Raises:
        UserError: no picture at all; pictures or lines that cannot be used. All are counted, the
            first ten named.
    """
    files = sorted(path for path in images.rglob("*") if is_picture(path))
    if not files:
        raise UserError(f"{images} holds no picture: expected the folder of a YOLO data set")
    read, problems, unlabelled = [], [], []
    expected = set()
    for file in files:
        name = file.relative_to(images)
        label = (labels / name).with_suffix(".txt")
        expected.add(label)
        try:
            size = picture_size(str(file))
            lines = _read_lines(label)
            if lines is None:
                unlabelled.append(name.as_posix())
            objects = [_read_object(line, label, classes, size) for line in lines or () if line]
            read.append(LabelledImage(name.as_posix(), *size, objects))
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError(
            f"{len(problems)} of {len(files)} pictures or their labels cannot be used: "
            f"{name_first(problems)}. Fix or remove them"
        )
    _log(unlabelled, "pictures have no label file: taken as pictures without an object")
    lonely = [path for path in labels.rglob("*.txt") if path not in expected]
    _log(_names(lonely, labels), "text files have no picture and are left out")
    return read


def _split_folder(file: Path, root: Path, split: str, value: Any) -> Path:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, str):
        raise UserError(f'{file}: "{split}" has to be one folder of pictures; got {value!r}')
    folder = root / value
    # Roboflow's exports say ../train/images for the folder train beside the yaml.
    for place in (folder, file.parent / value.removeprefix("../")):
        if place.is_dir():
            return place
    raise UserError(f'{file}: "{split}" is {value}, but {folder} is no folder')


def _read_lines(label: Path) -> list[list[str]] | None:
    """The words of each line; None where there is no file."""
    if is_special_file(label):
        raise UserError(f"{label} is no regular file")
    try:
        return [line.split() for line in label.read_text(encoding="utf-8-sig").splitlines()]
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{label} cannot be read: {error}") from error


def _read_object(
    words: Sequence[str], label: Path, classes: Sequence[str], size: tuple[int, int]
) -> LabelledObject:
    where = f"{label}: {' '.join(words[:6])}{' …' if len(words) > 6 else ''}"
    try:
        number, shares = int(words[0]), [float(word) for word in words[1:]]
    except ValueError:
        raise UserError(f"{where}: expected a class number and numbers") from None
    is_polygon = len(shares) >= 6 and len(shares) % 2 == 0
    if len(shares) != 4 and not is_polygon:
        raise UserError(
            f"{where}: expected a class and 4 numbers, or a polygon of 3 or more points; got "
            f"{len(shares)} numbers"
        )
    if not 0 <= number < len(classes):
        raise UserError(f"{where}: there are classes from 0 to {len(classes) - 1}")
    if not all(math.isfinite(s) and -_TOLERANCE <= s <= 1 + _TOLERANCE for s in shares):
        raise UserError(f"{where}: expected shares of the picture, from 0 to 1, not pixels")
    if is_polygon:
        corners = [min(shares[::2]), min(shares[1::2]), max(shares[::2]), max(shares[1::2])]
    else:
        x, y, width, height = shares
        if width < 0 or height < 0:
            raise UserError(f"{where}: width and height are negative")
        corners = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    x0, y0, x1, y1 = (round(share * side, _DECIMALS) for share, side in zip(corners, size * 2))
    return LabelledObject(classes[number], (x0, y0, x1, y1))


def _names(paths: Iterable[Path], folder: Path) -> list[str]:
    """Those that may be labels: not classes.txt, nor what macOS adds."""
    return sorted(
        os.fspath(path.relative_to(folder))
        for path in paths
        if path.name != "classes.txt" and not path.name.startswith(".")
    )


def _log(names: Sequence[str], what: str) -> None:
    if names:
        logger.warning(f"{len(names)} {what}: {name_first(names)}")
