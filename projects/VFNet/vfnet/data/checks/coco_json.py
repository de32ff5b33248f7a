"""Is a json file what COCO's detection format asks for? Read as plain data, before it is used."""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from detectron2.utils.file_io import PathManager

from ...errors import UserError
from ...utils.files import is_special_file
from .report import name_first


def check_coco_file(json_file: str) -> dict[int, str]:
    """Check a json file in COCO's detection format.

    "annotations" may be absent (a test set). Crowds are checked as all annotations are. What only
    COCO's evaluation needs is for `check_evaluable`.

    Returns:
        the categories, `{id: name}`, sorted by id.

    Raises:
        UserError: the file cannot be read, is not of that format, or holds items that cannot be
            right: ids used twice, references to nothing, boxes that are not four finite numbers
            or have a negative side, "iscrowd" that is neither 0 nor 1. All items of one kind are
            counted, the first ten named.
    """
    content = _read(json_file)
    images, categories = content["images"], content["categories"]
    annotations = content.get("annotations", [])
    if not images or not categories:
        empty = "images" if not images else "categories"
        raise UserError(f'{json_file}: "{empty}" is empty; at least one is needed')

    names = _check_categories(json_file, categories)
    _check_images(json_file, images)
    _check_annotations(json_file, annotations, {image["id"] for image in images}, names)
    return dict(sorted(names.items()))


def check_evaluable(name: str, records: Sequence[dict[str, Any]]) -> None:
    """Check that a data set holds what COCO's evaluation reads and training does without.

    Args:
        name: of the data set, for the message.
        records: dataset dicts that `register_coco_format` registered; their annotations carry
            "id" and "area".

    Raises:
        UserError: annotations without an area or without "iscrowd", or with the id 0, which COCO's
            evaluation takes for "matched to nothing". All are counted, the first ten named.
    """
    files = {a["id"]: record["file_name"] for record in records for a in record["annotations"]}
    annotations = [a for record in records for a in record["annotations"]]

    def describe(annotation: dict) -> str:
        id_ = annotation["id"]
        return f"id {id_} ({files[id_]}, area {annotation.get('area')})"

    for lacking, bad in (
        (
            'an "area" that is a finite number of 0 or more (for boxes: width x height)',
            [a for a in annotations if not (_is_number(a.get("area")) and a["area"] >= 0)],
        ),
        ('"iscrowd" (0 or 1)', [a for a in annotations if "iscrowd" not in a]),
        ("an id other than 0", [a for a in annotations if a["id"] == 0]),
    ):
        if bad:
            raise UserError(
                f"{name}: {len(bad)} annotations lack {lacking}, without which COCO's evaluation "
                f"goes wrong: {name_first(bad, describe)}. Add it to the json file, or take "
                f"{name} out of DATASETS.TEST"
            )


def _read(json_file: str) -> dict[str, Any]:
    if is_special_file(json_file):
        raise UserError(f"{json_file} is no regular file")
    try:
        with PathManager.open(json_file, "r") as file:
            content = json.load(file)
    except FileNotFoundError as error:
        raise UserError(
            f"{json_file} is not there. DATASETS.COCO_FORMAT wants [name, json file, folder of "
            "the images], with paths that are absolute or relative to the working directory"
        ) from error
    except OSError as error:
        raise UserError(f"{json_file} cannot be read: {error}") from error
    except ValueError as error:  # not json, or not text
        raise UserError(f"{json_file} is not a whole json file: {error}") from error

    for key in ("images", "categories"):
        if not isinstance(content, dict) or key not in content:
            raise UserError(
                f'{json_file} has no "{key}": expected COCO\'s detection format, one object with '
                '"images", "annotations" and "categories"'
            )
    for key in ("images", "categories", "annotations"):
        items = content.get(key, [])
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise UserError(f'{json_file}: "{key}" has to be a list of objects')
    return content


def _check_categories(json_file: str, categories: list[dict]) -> dict[int, str]:
    refuse = _refuser(json_file, "categories", str)
    refuse(
        "without an integer id and a name",
        (
            c
            for c in categories
            if not (_is_integer(c.get("id")) and isinstance(c.get("name"), str))
        ),
    )
    refuse("with an id that another category has", _repeated(categories, "id"))
    refuse("with a name that another category has", _repeated(categories, "name"))
    return {category["id"]: category["name"] for category in categories}


def _check_images(json_file: str, images: list[dict]) -> None:
    refuse = _refuser(json_file, "images", _image_name)
    refuse(
        "without an integer id and a file_name",
        (i for i in images if not (_is_integer(i.get("id")) and _is_name(i.get("file_name")))),
    )
    refuse("with an id that another image has", _repeated(images, "id"))
    refuse(
        "whose width and height are not positive integers",
        (
            image
            for image in images
            if not all(_is_integer(image.get(k)) and image[k] > 0 for k in ("width", "height"))
        ),
    )


def _check_annotations(
    json_file: str, annotations: list[dict], image_ids: Iterable[int], names: dict[int, str]
) -> None:
    refuse = _refuser(json_file, "annotations", _annotation_name)
    refuse("without an integer id", (a for a in annotations if not _is_integer(a.get("id"))))
    refuse("with an id that another annotation has", _repeated(annotations, "id"))
    refuse(
        'of an image that is not in "images"',
        (a for a in annotations if not _is_member(a.get("image_id"), image_ids)),
    )
    refuse(
        'of a category that is not in "categories"',
        (a for a in annotations if not _is_member(a.get("category_id"), names)),
    )
    refuse(
        "whose bbox is not four finite numbers [x, y, width, height] with sides of 0 or more",
        (a for a in annotations if not _is_box(a.get("bbox"))),
    )
    refuse(
        '(marked "ignore", which Detectron2 does not know; "iscrowd" is what it knows)',
        (a for a in annotations if a.get("ignore", 0) != 0),
    )
    # Detectron2 takes every box for a crowd whose "iscrowd" is not 0, and leaves it out.
    refuse(
        'whose "iscrowd" is neither 0 nor 1',
        (a for a in annotations if a.get("iscrowd", 0) not in (0, 1)),
        lambda a: f"{a['iscrowd']!r} of {_annotation_name(a)}",
    )


def _refuser(json_file: str, what: str, describe: Callable[[dict], str]) -> Callable[..., None]:
    """Return a function that raises a UserError, naming the items it is given, if there are any."""

    def refuse(
        kind: str, items: Iterable[dict], describe: Callable[[dict], str] = describe
    ) -> None:
        bad = list(items)
        if bad:
            raise UserError(
                f"{json_file}: {len(bad)} {what} {kind}: {name_first(bad, describe)}. Fix the file"
            )

    return refuse


def _repeated(items: list[dict], key: str) -> list[dict]:
    counts = Counter(item[key] for item in items)
    return [item for item in items if counts[item[key]] > 1]


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_member(value: Any, members: Iterable[int]) -> bool:
    return _is_integer(value) and value in members


def _is_box(box: Any) -> bool:
    return (
        isinstance(box, list)
        and len(box) == 4
        and all(map(_is_number, box))
        and box[2] >= 0
        and box[3] >= 0
    )


def _image_name(image: dict) -> str:
    return (
        f"{image.get('file_name')} (id {image.get('id')}, "
        f"{image.get('width')}x{image.get('height')})"
    )


def _annotation_name(annotation: dict) -> str:
    return (
        f"id {annotation.get('id')} (image_id {annotation.get('image_id')}, category_id "
        f"{annotation.get('category_id')}, bbox {annotation.get('bbox')})"
    )
