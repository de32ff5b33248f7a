"""Own data: the data sets that DATASETS.COCO_FORMAT names become data sets of Detectron2."""

import json
import logging
import os
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json

from ...config import DEFAULT_NUM_CLASSES, detector_key, detector_node
from ...errors import UserError
from ...utils.quiet import silent_logs
from ..checks.coco_json import check_coco_content
from ..checks.datasets import is_there
from ..checks.report import name_first
from .coco_file import CocoFile, complete, empty_parents, read_coco_file, without_categories
from .picture_names import find_pictures

logger = logging.getLogger(__name__)


class CocoFormatEntry(NamedTuple):
    """One entry of DATASETS.COCO_FORMAT: [name, json file, folder of the images]."""

    name: str
    json_file: str
    image_root: str


def register_coco_format(cfg: CfgNode) -> None:
    """Register the data sets of DATASETS.COCO_FORMAT and take their classes into the config.

    Each gets `thing_classes`, `thing_dataset_id_to_contiguous_id`, `json_file`, `image_root` and
    `evaluator_type` at once; its records are loaded when they are asked for. What exporters leave
    out or add is put right in memory: coco_file.py says what. To register the same again does
    nothing. NUM_CLASSES is replaced where it is 80, the default, and CLASS_NAMES where
    it is empty; nothing is registered or changed if anything below is wrong.

    An entry that neither DATASETS.TRAIN nor TEST names is left out where its json file is absent.

    Raises:
        UserError: a malformed entry; a name that belongs to other files; a bad json file
            (`read_coco_file`, `check_coco_content`); categories that differ between the entries
            that DATASETS.TRAIN and TEST use (between all entries if they use none); NUM_CLASSES or
            CLASS_NAMES that differ from the categories.
    """
    _register_entries(cfg, (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST))


def register_test_sets(cfg: CfgNode) -> None:
    """As `register_coco_format`, for what does not train: the files of TRAIN may be absent too."""
    _register_entries(cfg, cfg.DATASETS.TEST)


def _register_entries(cfg: CfgNode, named: Collection[str]) -> None:
    """Register the entries in `named` (all of them, if it is empty) and the others that exist."""
    entries = [
        entry
        for entry in _parse(cfg.DATASETS.COCO_FORMAT)
        if not named or entry.name in named or is_there(entry.json_file)
    ]
    if not entries:
        return
    for entry in entries:
        _check_name_is_free(entry)
    files = {entry.name: read_coco_file(entry.json_file) for entry in entries}
    used = [name for name in files if name in named] or list(files)
    left_out = _empty_parents(cfg, files, used)
    categories = {}
    for entry in entries:
        content = without_categories(files[entry.name].content, left_out[entry.name])
        categories[entry.name] = check_coco_content(entry.json_file, content)
        _check_unchanged(entry, categories[entry.name])

    for name in used[1:]:
        _check_agreement(used[0], categories[used[0]], name, categories[name])
    _take_classes(cfg, used[0], list(categories[used[0]].values()))

    for entry in entries:
        _register(entry, categories[entry.name], files[entry.name], left_out[entry.name])


def publish_class_names(cfg: CfgNode) -> None:
    """Give the first data set of TRAIN and of TEST the config's class names, if they have none.

    With them a dumped config alone predicts with names, though its data may be far away: SAHI looks
    in the metadata of DATASETS.TRAIN[0], `DefaultPredictor` and FiftyOne in that of TEST[0]. Who
    loads a config calls this; building a model does not. Other names that are known stay, because
    Detectron2 refuses to change them, with a warning.
    """
    names = list(detector_node(cfg).CLASS_NAMES)
    if not names:
        return
    for name in dict.fromkeys((*cfg.DATASETS.TRAIN[:1], *cfg.DATASETS.TEST[:1])):
        metadata = MetadataCatalog.get(name)
        known = metadata.get("thing_classes")
        if not known:
            metadata.thing_classes = names
        elif list(known) != names:
            logger.warning(
                f'"{name}" is known in this process with the classes {list(known)}, which stay, '
                f"but {detector_key(cfg)}.CLASS_NAMES is {names}: name another data set in "
                "DATASETS to have the config's names"
            )


def repairs_of(names: Iterable[str]) -> list[str]:
    """What was put right in the json files of data sets, a line each."""
    return [
        f"{name}: {line}" for name in names for line in MetadataCatalog.get(name).get("repairs", ())
    ]


@contextmanager
def evaluation_file(name: str) -> Iterator[None]:
    """While it is entered, the metadata's json file is what the data set holds as it was loaded.

    Detectron2's `COCOEvaluator` reads it by itself, with pycocotools.
    """
    metadata = MetadataCatalog.get(name)
    if metadata.get("is_plain", True):
        yield
        return
    json_file = metadata.json_file
    entry = CocoFormatEntry(name, json_file, metadata.image_root)
    with _written(_content(entry), json_file) as copy:
        # Metadata refuses to be set to another value.
        vars(metadata)["json_file"] = copy
        try:
            yield
        finally:
            vars(metadata)["json_file"] = json_file


def _empty_parents(
    cfg: CfgNode, files: dict[str, CocoFile], used: Collection[str]
) -> dict[str, set[int]]:
    """The categories to leave out of each file: what one file of a run uses, the others keep."""
    wanted = detector_node(cfg).CLASS_NAMES
    joint = empty_parents([files[name].content for name in used], wanted)
    return {
        name: joint if name in used else empty_parents([file.content], wanted)
        for name, file in files.items()
    }


def _parse(value: list[Any]) -> list[CocoFormatEntry]:
    entries: dict[str, CocoFormatEntry] = {}
    for item in value:
        is_entry = isinstance(item, (list, tuple)) and len(item) == 3
        if not is_entry or not all(isinstance(part, str) and part for part in item):
            raise UserError(
                "DATASETS.COCO_FORMAT has to be a list of [name, json file, folder of the "
                f"images], three texts each; got {item!r}"
            )
        entry = CocoFormatEntry(*item)
        if entries.setdefault(entry.name, entry) != entry:
            raise UserError(
                f'DATASETS.COCO_FORMAT names "{entry.name}" twice with different files: '
                f"{entries[entry.name]} and {entry}"
            )
    return list(entries.values())


def _check_name_is_free(entry: CocoFormatEntry) -> None:
    if entry.name not in DatasetCatalog:
        return
    metadata = MetadataCatalog.get(entry.name)
    files = (metadata.get("json_file"), metadata.get("image_root"))
    if files != (entry.json_file, entry.image_root):
        raise UserError(
            f'DATASETS.COCO_FORMAT: the name "{entry.name}" belongs to another data set '
            f"(json file {files[0]}, images {files[1]}), not to {entry.json_file} and "
            f"{entry.image_root}. Choose another name"
        )


def _check_unchanged(entry: CocoFormatEntry, categories: dict[int, str]) -> None:
    # Also true of names that publish_class_names gave to a data set not registered yet.
    known = MetadataCatalog.get(entry.name).get("thing_classes")
    if known and known != list(categories.values()):
        raise UserError(
            f'"{entry.name}" is known with the classes {known}, but {entry.json_file} has '
            f"{list(categories.values())}. Choose another name, or start a new process"
        )


def _check_agreement(
    first: str, first_categories: dict[int, str], second: str, second_categories: dict[int, str]
) -> None:
    if first_categories == second_categories:
        return
    only_first = sorted(first_categories.items() - second_categories.items())
    only_second = sorted(second_categories.items() - first_categories.items())
    raise UserError(
        f"{first} and {second} have different categories (id, name): only {first} has "
        f"{only_first}, only {second} has {only_second}. Data sets of one run need the same ids "
        "and names"
    )


def _take_classes(cfg: CfgNode, name: str, classes: list[str]) -> None:
    """Write the classes into the detector's node; touches nothing that says the same already."""
    key, node = detector_key(cfg), detector_node(cfg)
    if node.NUM_CLASSES not in (DEFAULT_NUM_CLASSES, len(classes)):
        raise UserError(
            f"{key}.NUM_CLASSES is {node.NUM_CLASSES}, but {name} has {len(classes)} "
            f"categories ({', '.join(classes)}). Leave NUM_CLASSES out, or fix it"
        )
    if node.CLASS_NAMES and list(node.CLASS_NAMES) != classes:
        raise UserError(
            f"{key}.CLASS_NAMES is {list(node.CLASS_NAMES)}, but {name} has {classes}. "
            "Leave CLASS_NAMES out, or fix it"
        )
    if node.NUM_CLASSES != len(classes):
        node.NUM_CLASSES = len(classes)
    if not node.CLASS_NAMES:
        node.CLASS_NAMES = classes


def _register(
    entry: CocoFormatEntry, categories: dict[int, str], file: CocoFile, left_out: set[int]
) -> None:
    metadata = MetadataCatalog.get(entry.name)
    if entry.name not in DatasetCatalog:
        DatasetCatalog.register(entry.name, lambda: _load(entry))
        _, repairs, is_changed = complete(file.content, _places(entry, file.content))
        parents = [c["name"] for c in file.content["categories"] if c["id"] in left_out]
        if parents:
            is_changed = True
            repairs.append(
                f"{len(parents)} categories that group others and hold no box are left out: "
                f"{name_first(parents)}"
            )
        metadata.set(repairs=repairs, is_plain=file.is_plain and not is_changed)
    metadata.set(
        thing_classes=list(categories.values()),
        thing_dataset_id_to_contiguous_id={id_: i for i, id_ in enumerate(categories)},
        json_file=entry.json_file,
        image_root=entry.image_root,
        evaluator_type="coco",
        from_config=True,
    )


def _load(entry: CocoFormatEntry) -> list[dict[str, Any]]:
    """Load the boxes of a json file with Detectron2's `load_coco_json`.

    That leaves out every box whose mask it cannot use. Masks play no part here, so it is given a
    copy of the file without them.
    """
    with _written(_content(entry), entry.json_file) as copy, silent_logs():  # it names the copy
        records = load_coco_json(copy, entry.image_root, entry.name)
    logger.info(f"{entry.name}: {len(records)} pictures of {entry.json_file}")
    return records


def _content(entry: CocoFormatEntry) -> dict[str, Any]:
    """What a registered data set holds, as Detectron2 and COCO's evaluation take it."""
    content = read_coco_file(entry.json_file).content
    kept = MetadataCatalog.get(entry.name).thing_dataset_id_to_contiguous_id
    left_out = {category["id"] for category in content["categories"]} - set(kept)
    content = without_categories(content, left_out)
    return complete(content, _places(entry, content)).content


def _places(entry: CocoFormatEntry, content: dict[str, Any]) -> dict[str, str]:
    return find_pictures(entry.image_root, (image["file_name"] for image in content["images"]))


@contextmanager
def _written(content: dict[str, Any], json_file: str) -> Iterator[str]:
    """A file with this content, called as `json_file` is: Detectron2 knows COCO's minival by it."""
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, os.path.basename(json_file))
        with open(copy, "w", encoding="ascii") as file:
            json.dump(content, file)
        yield copy
