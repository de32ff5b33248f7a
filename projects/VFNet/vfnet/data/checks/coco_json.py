"""Is the content of a json file what COCO's detection format asks for? Checked as plain data."""

import math
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from ...errors import UserError
from ...utils.text import is_name
from .report import name_first

_UNPRINTABLE = "control characters or halves of characters"


def check_coco_content(json_file: str, content: dict[str, Any]) -> dict[int, str]:
    """Check the content of a json file in COCO's detection format, as `read_coco_file` returns it.

    "annotations" may be absent (a test set). Crowds are checked as all annotations are.

    Returns:
        the categories, `{id: name}`, sorted by id.

    Raises:
        UserError: it holds items that cannot be right: ids used twice, references to nothing,
            names that no line of text can hold, boxes that are not four finite numbers or have a
            negative side, "iscrowd" that is neither 0 nor 1. All items of one kind are counted,
            the first ten named.
    """
    images, categories = content["images"], content["categories"]
    annotations = content.get("annotations", [])
    if not images or not categories:
        empty = "images" if not images else "categories"
        raise UserError(f'{json_file}: "{empty}" is empty; at least one is needed')

    _check_categories(json_file, categories)
    _check_images(json_file, images)
    names = {category["id"]: category["name"] for category in categories}
    _check_annotations(json_file, annotations, {image["id"] for image in images}, set(names))
    return dict(sorted(names.items()))


def is_number(value: Any) -> bool:
    """Whether a value is a finite number that a float holds."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer of 400 digits
        return False


def _check_categories(json_file: str, categories: list[dict]) -> None:
    refuse = partial(_refuse, json_file, "categories", categories, str)
    refuse(
        "without an integer id and a name",
        lambda c: not (_is_integer(c.get("id")) and isinstance(c.get("name"), str)),
    )
    refuse("with an id that another category has", _is_repeated(categories, "id"))
    refuse(f"whose name holds {_UNPRINTABLE}", lambda c: not is_name(c["name"]))
    refuse("with a name that another category has", _is_repeated(categories, "name"))


def _check_images(json_file: str, images: list[dict]) -> None:
    refuse = partial(_refuse, json_file, "images", images, _image_name)
    refuse(
        "without an integer id and a file_name",
        lambda i: not (_is_integer(i.get("id")) and _is_name(i.get("file_name"))),
    )
    refuse(f"whose file_name holds {_UNPRINTABLE}", lambda i: not is_name(i["file_name"]))
    refuse("with an id that another image has", _is_repeated(images, "id"))
    refuse(
        "whose width and height are not positive integers",
        lambda i: not all(_is_integer(i.get(k)) and i[k] > 0 for k in ("width", "height")),
    )


def _check_annotations(
    json_file: str, annotations: list[dict], image_ids: set[int], category_ids: set[int]
) -> None:
    refuse = partial(_refuse, json_file, "annotations", annotations, _annotation_name)
    refuse("without an integer id", lambda a: not _is_integer(a.get("id")))
    refuse("with an id that another annotation has", _is_repeated(annotations, "id"))
    refuse(
        'of an image that is not in "images"',
        lambda a: not (_is_integer(a.get("image_id")) and a["image_id"] in image_ids),
    )
    refuse(
        'of a category that is not in "categories"',
        lambda a: not (_is_integer(a.get("category_id")) and a["category_id"] in category_ids),
    )
    refuse(
        "whose bbox is not four finite numbers [x, y, width, height] with sides of 0 or more",
        lambda a: not _is_box(a.get("bbox")),
    )
    refuse(
        '(marked "ignore", which Detectron2 does not know; "iscrowd" is what it knows)',
        lambda a: a.get("ignore", 0) != 0,
    )
    # Detectron2 takes every box for a crowd whose "iscrowd" is not 0, and leaves it out.
    _refuse(
        json_file,
        "annotations",
        annotations,
        lambda a: f"{a['iscrowd']!r} of {_annotation_name(a)}",
        'whose "iscrowd" is neither 0 nor 1',
        lambda a: a.get("iscrowd", 0) not in (0, 1),
    )


def _refuse(
    json_file: str,
    what: str,
    items: list[dict],
    describe: Callable[[dict], str],
    kind: str,
    is_bad: Callable[[dict], bool],
) -> None:
    bad = [describe(item) for item in items if is_bad(item)]
    if bad:
        raise UserError(f"{json_file}: {len(bad)} {what} {kind}: {name_first(bad)}. Fix the file")


def _is_repeated(items: list[dict], key: str) -> Callable[[dict], bool]:
    counts = Counter(item[key] for item in items)
    return lambda item: counts[item[key]] > 1


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_box(box: Any) -> bool:
    return (
        isinstance(box, list)
        and len(box) == 4
        and all(map(is_number, box))
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
