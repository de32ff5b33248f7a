"""A json file in COCO's format as exporters write it; what they leave out or add is put right."""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from detectron2.utils.file_io import PathManager

from ...errors import UserError
from ...utils.files import is_special_file
from ..checks.coco_json import is_number
from ..checks.report import name_first

Content = dict[str, Any]
# Ids that COCO's evaluation takes: it knows 0 as "matched to nothing", and counts in 64 bits.
_IDS = range(1, 2**63)


class CocoFile(NamedTuple):
    """What a json file holds."""

    content: Content
    # False: pycocotools, which opens files as text of the locale, may read it in another way.
    is_plain: bool


class Completed(NamedTuple):
    """A content that Detectron2 and COCO's evaluation take."""

    content: Content
    repairs: list[str]  # a line for each thing put right, as far as somebody may care
    is_changed: bool  # something that COCO's evaluation reads was put right


def read_coco_file(json_file: str) -> CocoFile:
    """Read a file of UTF-8, with or without a byte order mark, UTF-16 or UTF-32.

    Raises:
        UserError: it cannot be read, or is no object with the lists "images" and "categories" and
            perhaps "annotations".
    """
    if is_special_file(json_file):
        raise UserError(f"{json_file} is no regular file")
    try:
        with PathManager.open(json_file, "rb") as file:
            raw = file.read()
        content = json.loads(raw)
    except FileNotFoundError as error:
        raise UserError(
            f"{json_file} is not there. DATASETS.COCO_FORMAT wants [name, json file, folder of "
            "the images], with paths that are absolute or relative to the working directory"
        ) from error
    except OSError as error:
        raise UserError(f"{json_file} cannot be read: {error}") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{json_file} is no text in {error.encoding} ({error.reason} at byte {error.start}): "
            "save it as UTF-8"
        ) from error
    except json.JSONDecodeError as error:
        raise UserError(f"{json_file} is not a whole json file: {error}") from error
    except RecursionError as error:
        raise UserError(
            f"{json_file} is nested too deeply; COCO's format is lists in an object"
        ) from error
    except ValueError as error:  # a number of thousands of digits
        raise UserError(f"{json_file} holds what cannot be used: {error}") from error
    _check_structure(json_file, content)
    return CocoFile(content, raw.isascii() and json.detect_encoding(raw) == "utf-8")


def empty_parents(contents: Sequence[Content], wanted: Collection[str] = ()) -> set[int]:
    """The ids of categories that only group others, as the root that Roboflow's exports have.

    They are named as the "supercategory" of another category, and hold no box in any of the files,
    which belong to one run. The `wanted` names, those of a config, stay, unless two have one.
    """
    used = [a.get("category_id") for content in contents for a in content.get("annotations", [])]
    parents = set()
    for content in contents:
        categories = content["categories"]
        names, groups = (_count_texts(categories, key) for key in ("name", "supercategory"))
        for category in categories:
            name, id_ = category.get("name"), category.get("id")
            # Others, which cannot be used, are left to `check_coco_content`.
            if not (isinstance(name, str) and isinstance(id_, int)):
                continue
            groups_others = groups[name] > (category.get("supercategory") == name)
            if groups_others and (names[name] > 1 or name not in wanted):
                parents.add(id_)
    return parents - {id_ for id_ in used if isinstance(id_, int)}


def without_categories(content: Content, left_out: Collection[int]) -> Content:
    """The same without some categories, which hold no box."""
    # Not by hash: an id that `check_coco_content` has not seen may be a list.
    kept = [c for c in content["categories"] if c.get("id") not in list(left_out)]
    return {**content, "categories": kept}


def complete(content: Content, file_names: Mapping[str, str] | None = None) -> Completed:
    """Fill in and renumber what Detectron2 and COCO's evaluation need beside the boxes.

    An "area" that is no number of 0 or more becomes that of the box, an absent "iscrowd" 0;
    annotations are numbered anew where an id cannot be used. Masks and whatever else boxes do not
    need are left out.

    Args:
        content: that `check_coco_content` passes.
        file_names: where the pictures are whose "file_name" leads nowhere: `find_pictures`.
    """
    file_names = file_names or {}
    repairs = []
    if file_names:
        examples = [f"{name} -> {found}" for name, found in file_names.items()]
        repairs.append(
            f"{len(file_names)} pictures are not where the json file says, and were found by the "
            f"end of their names: {name_first(examples, limit=3)}"
        )
    lacking = {"area": 0, "iscrowd": 0}
    annotations = []
    for annotation in content.get("annotations", []):
        kept = {key: annotation[key] for key in ("id", "image_id", "category_id", "bbox")}
        kept["iscrowd"] = annotation.get("iscrowd", 0)
        kept["area"] = annotation.get("area")
        lacking["iscrowd"] += "iscrowd" not in annotation
        if not (is_number(kept["area"]) and kept["area"] >= 0):
            lacking["area"] += 1
            kept["area"] = kept["bbox"][2] * kept["bbox"][3]
        annotations.append(kept)
    for key, value in (("area", "width x height of the box"), ("iscrowd", "0, no crowd")):
        if lacking[key]:
            repairs.append(f'{lacking[key]} annotations have no usable "{key}": taken as {value}')
    is_renumbered = any(annotation["id"] not in _IDS for annotation in annotations)
    if is_renumbered:
        # Without a word: nothing but COCO's evaluation looks at them.
        for number, annotation in enumerate(annotations, start=1):
            annotation["id"] = number
    completed: Content = {
        "images": [
            {**{key: image[key] for key in ("id", "width", "height")}, "file_name": name}
            for image in content["images"]
            for name in [file_names.get(image["file_name"], image["file_name"])]
        ],
        "categories": [{"id": c["id"], "name": c["name"]} for c in content["categories"]],
    }
    if "annotations" in content:
        completed["annotations"] = annotations
    return Completed(completed, repairs, bool(repairs) or is_renumbered)


def _count_texts(items: Iterable[Content], key: str) -> Counter[str]:
    return Counter(item[key] for item in items if isinstance(item.get(key), str))


def _check_structure(json_file: str, content: Any) -> None:
    for key in ("images", "categories"):
        if not isinstance(content, dict) or key not in content:
            raise UserError(
                f'{json_file} has no "{key}": expected COCO\'s detection format, one object with '
                '"images", "annotations" and "categories"'
            )
    for key in ("images", "categories", "annotations"):
        items: Iterable[Any] = content.get(key, [])
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise UserError(f'{json_file}: "{key}" has to be a list of objects')
