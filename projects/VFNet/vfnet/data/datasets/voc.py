"""Pascal VOC folders: an xml for each picture."""

import logging
import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ...errors import UserError
from ...utils.files import is_special_file
from ..checks.pictures import picture_size
from ..checks.report import name_first
from ..file_names import is_picture
from .to_coco import LabelledImage, LabelledObject

logger = logging.getLogger(__name__)


def read_voc(annotations: Path, images: Path) -> list[LabelledImage]:
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
    files = sorted(file for file in annotations.glob("*.xml") if not file.name.startswith("."))
    if not files:
        raise UserError(f"{annotations} holds no xml file: it has to be a folder of VOC xml files")
    pictures = {path.stem: path for path in sorted(images.iterdir()) if is_picture(path)}
    found: dict[str, LabelledImage] = {}
    problems = []
    for file in files:
        try:
            image = _read_image(file, images, pictures)
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


def _read_image(file: Path, images: Path, pictures: Mapping[str, Path]) -> LabelledImage:
    if is_special_file(file):
        raise UserError(f"{file.name} is no regular file")
    try:
        root = ElementTree.parse(file).getroot()
    except (ElementTree.ParseError, OSError, LookupError, ValueError) as error:  # encodings, too
        raise UserError(f"{file.name} is not whole xml ({error})") from error
    objects = [_read_object(element, file) for element in root.iter("object")]
    picture = _find_picture(file, images, pictures, root)
    width, height = picture_size(str(picture))
    said = tuple(_number(root, f"size/{side}", file, "0") for side in ("width", "height"))
    if all(said) and said != (width, height):
        raise UserError(
            f"{file.name} says {said[0]:g}x{said[1]:g}, its picture is {width}x{height}"
        )
    return LabelledImage(picture.relative_to(images).as_posix(), width, height, objects)


def _find_picture(
    file: Path, images: Path, pictures: Mapping[str, Path], root: ElementTree.Element
) -> Path:
    # By the xml's own name first: <filename> is often stale after a renaming.
    if file.stem in pictures:
        return pictures[file.stem]
    name = (root.findtext("filename") or "").strip()
    with suppress(OSError, ValueError):  # a name too long, a NUL in it
        if name and (images / name).is_file():
            return images / name
    raise UserError(f"{file.name} has no picture in {images}")


def _read_object(element: ElementTree.Element, file: Path) -> LabelledObject:
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
    return LabelledObject(name, (xmin, ymin, xmax, ymax), difficult)


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


def _log_pictures_without_xml(images: Path, found: dict[str, LabelledImage]) -> None:
    names = sorted(path.name for path in images.iterdir() if is_picture(path))
    lonely = [name for name in names if name not in found]
    if lonely:
        logger.warning(f"{len(lonely)} pictures without an xml left out: {name_first(lonely)}")
