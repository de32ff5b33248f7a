"""Pascal VOC folders (one xml per picture) to json files in COCO's detection format."""

import hashlib
import json
import logging
import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import UserError
from ...utils.files import write_aside
from ..checks.pictures import picture_size
from ..checks.report import name_first
from ..file_names import PICTURE_SUFFIXES, is_picture

logger = logging.getLogger(__name__)

DIFFICULT_CHOICES = ("keep", "crowd", "drop")


class VocObject(NamedTuple):
    """One object of an xml file."""

    name: str
    box: tuple[float, float, float, float]  # xmin, ymin, xmax, ymax as in the file
    difficult: bool


class VocImage(NamedTuple):
    """One picture and its objects."""

    file_name: str  # relative to the folder of the pictures
    width: int
    height: int
    objects: list[VocObject]


def read_voc(annotations: Path, images: Path) -> list[VocImage]:
    """Read a folder of xml files; the pictures' headers are read too.

    The picture of `x.xml` is `x` with a picture's suffix in `images`, else what <filename> says.
    A size that the xml lacks or gives as 0 comes from the picture. Pictures without an xml are
    counted in one log line and left out.

    Returns:
        the images, sorted by file name.

    Raises:
        UserError: no xml at all; an xml that is malformed, has no picture or says another size
            than its picture has; two of one picture. All are counted, the first ten named.
    """
    files = sorted(annotations.glob("*.xml"))
    if not files:
        raise UserError(f"{annotations} holds no xml file: it has to be a folder of VOC xml files")
    found: dict[str, VocImage] = {}
    problems = []
    for file in files:
        try:
            image = _read_image(file, images)
            if image.file_name in found:
                raise UserError(f"{file.name}: another xml has the picture {image.file_name} too")
            found[image.file_name] = image
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError(
            f"{len(problems)} of {len(files)} xml files in {annotations} cannot be used: "
            f"{name_first(problems)}. Fix or remove them"
        )
    _log_pictures_without_xml(images, found)
    return [found[name] for name in sorted(found)]


def voc_to_coco(
    images: Sequence[VocImage],
    classes: Sequence[str] | None = None,
    difficult: str = "keep",
) -> dict[str, list[dict[str, Any]]]:
    """Convert images to the content of a json file in COCO's detection format.

    A box is x = xmin, y = ymin, width = xmax - xmin, height = ymax - ymin. Boxes without area are
    counted, the first ten named, and left out with a warning.

    Args:
        images: of `read_voc`.
        classes: the names in the order of their ids 1, 2, …; None: those found, sorted.
        difficult: what to do with objects marked so: "keep" them as they are, "crowd" (neither
            learned nor counted), or "drop".

    Raises:
        UserError: a class that `classes` lacks; another value of `difficult`.
    """
    if difficult not in DIFFICULT_CHOICES:
        raise UserError(f"difficult has to be one of {DIFFICULT_CHOICES}; got {difficult!r}")
    ids = _category_ids(images, classes)
    empty: list[str] = []
    annotations: list[dict[str, Any]] = []
    for image_id, image in enumerate(images, start=1):
        for item in image.objects:
            xmin, ymin, xmax, ymax = item.box
            if xmax == xmin or ymax == ymin:
                empty.append(f"{image.file_name} {item.name} {list(item.box)}")
            elif not (item.difficult and difficult == "drop"):
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image_id,
                        "category_id": ids[item.name],
                        "bbox": [xmin, ymin, xmax - xmin, ymax - ymin],
                        "area": (xmax - xmin) * (ymax - ymin),
                        "iscrowd": int(item.difficult and difficult == "crowd"),
                    }
                )
    if empty:
        logger.warning(f"{len(empty)} boxes without area left out: {name_first(empty)}")
    return {
        "images": [
            {"id": number, "file_name": i.file_name, "width": i.width, "height": i.height}
            for number, i in enumerate(images, start=1)
        ],
        "annotations": annotations,
        "categories": [{"id": id_, "name": name} for name, id_ in ids.items()],
    }


def split_by_hash(
    content: dict[str, list[dict[str, Any]]], train_share: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split a COCO content into train and val.

    The file names, sorted by their sha1, give the first round(train_share x n) to train: a split
    that anyone repeats without a random generator. Ids and the order of images stay.

    Raises:
        UserError: `train_share` does not leave at least one image on each side.
    """
    names = sorted(
        (image["file_name"] for image in content["images"]),
        key=lambda name: hashlib.sha1(name.encode()).hexdigest(),
    )
    count = round(train_share * len(names))
    if not 0 < count < len(names):
        raise UserError(
            f"A split of {train_share} gives {count} of {len(names)} images to train; both sides "
            "need at least one"
        )
    return _select(content, set(names[:count])), _select(content, set(names[count:]))


def write_json(content: dict[str, Any], file: Path) -> None:
    """Write a json file, whole or not at all; folders on the way are made."""
    text = json.dumps(content)
    file.parent.mkdir(parents=True, exist_ok=True)
    with write_aside(file) as stream:
        stream.write(text.encode())


def _read_image(file: Path, images: Path) -> VocImage:
    try:
        root = ElementTree.parse(file).getroot()
    except (ElementTree.ParseError, OSError) as error:
        raise UserError(f"{file.name} is not whole xml ({error})") from error
    objects = [_read_object(element, file) for element in root.iter("object")]
    picture = _find_picture(file, images, root)
    width, height = picture_size(str(picture))
    said = tuple(_number(root, f"size/{side}", file, "0") for side in ("width", "height"))
    if all(said) and said != (width, height):
        raise UserError(
            f"{file.name} says {said[0]:g}x{said[1]:g}, its picture is {width}x{height}"
        )
    return VocImage(picture.relative_to(images).as_posix(), width, height, objects)


def _find_picture(file: Path, images: Path, root: ElementTree.Element) -> Path:
    # By the xml's own name first: <filename> is often stale after a renaming.
    cases = (str.lower, str.upper, str.title)
    names = [file.stem + case(suffix) for case in cases for suffix in PICTURE_SUFFIXES]
    names.append((root.findtext("filename") or "").strip())
    for name in names:
        if name and (images / name).is_file():
            return images / name
    raise UserError(f"{file.name} has no picture in {images}")


def _read_object(element: ElementTree.Element, file: Path) -> VocObject:
    name = (element.findtext("name") or "").strip()
    if not name:
        raise UserError(f"{file.name} has an object without a name")
    box = element.find("bndbox")
    if box is None:
        raise UserError(f"{file.name} has an object without a box, {name}")
    xmin, ymin, xmax, ymax = (_number(box, tag, file) for tag in ("xmin", "ymin", "xmax", "ymax"))
    if xmax < xmin or ymax < ymin:
        raise UserError(
            f"{file.name} has a box of negative size, {name} {[xmin, ymin, xmax, ymax]}"
        )
    difficult = bool(_number(element, "difficult", file, "0"))
    return VocObject(name, (xmin, ymin, xmax, ymax), difficult)


def _number(
    element: ElementTree.Element, path: str, file: Path, default: str | None = None
) -> float:
    text = element.findtext(path, default) or None
    value = math.nan
    with suppress(ValueError):
        value = float(text or "")
    if not math.isfinite(value):
        tag = path.rpartition("/")[2]
        raise UserError(f"{file.name} has {text!r} where <{tag}> has to be a finite number")
    return value


def _log_pictures_without_xml(images: Path, found: dict[str, VocImage]) -> None:
    names = sorted(path.name for path in images.iterdir() if is_picture(path))
    lonely = [name for name in names if name not in found]
    if lonely:
        logger.warning(f"{len(lonely)} pictures without an xml left out: {name_first(lonely)}")


def _category_ids(images: Sequence[VocImage], classes: Sequence[str] | None) -> dict[str, int]:
    found: dict[str, str] = {}  # class: the first image that has it
    for image in images:
        for item in image.objects:
            found.setdefault(item.name, image.file_name)
    if classes is None:
        classes = sorted(found)
    if not classes or len(set(classes)) != len(classes):
        raise UserError(f"The classes have to be one or more different names; got {list(classes)}")
    unknown = [f"{name} (in {file})" for name, file in found.items() if name not in classes]
    if unknown:
        raise UserError(
            f"{len(unknown)} classes are not among {', '.join(classes)}: {name_first(unknown)}. "
            "Name them too, or fix the xml"
        )
    return {name: number for number, name in enumerate(classes, start=1)}


def _select(content: dict[str, Any], names: set[str]) -> dict[str, Any]:
    images = [image for image in content["images"] if image["file_name"] in names]
    ids = {image["id"] for image in images}
    annotations = [a for a in content["annotations"] if a["image_id"] in ids]
    return {**content, "images": images, "annotations": annotations}
