"""Pictures with named boxes to json files in COCO's detection format, whatever they came from."""

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import UserError
from ...utils.files import write_aside
from ..checks.report import name_first

logger = logging.getLogger(__name__)

DIFFICULT_CHOICES = ("keep", "crowd", "drop")


class LabelledObject(NamedTuple):
    """One object of a picture."""

    name: str
    box: tuple[float, float, float, float]  # xmin, ymin, xmax, ymax in pixels
    difficult: bool = False


class LabelledImage(NamedTuple):
    """One picture and its objects."""

    file_name: str  # relative to the folder of the pictures
    width: int
    height: int
    objects: list[LabelledObject]


def to_coco(
    images: Sequence[LabelledImage],
    classes: Sequence[str] | None = None,
    difficult: str = "keep",
) -> dict[str, list[dict[str, Any]]]:
    """Convert images to the content of a json file in COCO's detection format.

    A box is x = xmin, y = ymin, width = xmax - xmin, height = ymax - ymin. Boxes without area are
    counted, the first ten named, and left out with a warning.

    Args:
        images: of `read_voc` or `read_yolo`.
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


def check_output(output: Path, train_share: float | None) -> None:
    """Check a tool's `--output` and `--split`.

    Raises:
        UserError: they cannot be meant.
    """
    if train_share is None and output.is_dir():
        raise UserError(f"--output {output} is a folder; without --split it is a json file")
    if train_share is not None and output.suffix == ".json":
        raise UserError(f"--output {output} is a json file; with --split it is a folder")
    if train_share is not None and not 0 < train_share < 1:
        raise UserError(f"--split is the share of training images, 0 to 1; got {train_share:g}")


def write_coco(content: dict[str, Any], output: Path, train_share: float | None = None) -> None:
    """Write a json file, or with `train_share` train.json and val.json into a folder; say so.

    Raises:
        UserError: as `split_by_hash` and `write_json`.
    """
    outputs = {output: content}
    if train_share is not None:
        train, val = split_by_hash(content, train_share)
        outputs = {output / "train.json": train, output / "val.json": val}
    for file, part in outputs.items():
        write_json(part, file)
        print(f"{file}: {len(part['images'])} images, {len(part['annotations'])} boxes")


def write_json(content: dict[str, Any], file: Path) -> None:
    """Write a json file, whole or not at all; folders on the way are made.

    Raises:
        UserError: it cannot be written there.
    """
    text = json.dumps(content)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with write_aside(file) as stream:
            stream.write(text.encode())
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error}") from error


def _category_ids(images: Sequence[LabelledImage], classes: Sequence[str] | None) -> dict[str, int]:
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
            "Name them too, or fix the annotations"
        )
    return {name: number for number, name in enumerate(classes, start=1)}


def _select(content: dict[str, Any], names: set[str]) -> dict[str, Any]:
    images = [image for image in content["images"] if image["file_name"] in names]
    ids = {image["id"] for image in images}
    annotations = [a for a in content["annotations"] if a["image_id"] in ids]
    return {**content, "images": images, "annotations": annotations}
