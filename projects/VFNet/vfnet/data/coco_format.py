"""Own data: the data sets that DATASETS.COCO_FORMAT names become data sets of Detectron2."""

from typing import Any, NamedTuple

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json

from ..errors import UserError
from .coco_check import check_coco_file

# Detectron2's and COCO's count, the default of MODEL.VFNET.NUM_CLASSES: stands for "not said".
_DEFAULT_NUM_CLASSES = 80


class CocoFormatEntry(NamedTuple):
    """One entry of DATASETS.COCO_FORMAT."""

    name: str
    json_file: str
    image_root: str


def register_coco_format(cfg: CfgNode) -> None:
    """Register the data sets of DATASETS.COCO_FORMAT and take their classes into the config.

    Each gets `thing_classes`, `thing_dataset_id_to_contiguous_id`, `json_file`, `image_root` and
    `evaluator_type` at once; its records are loaded when they are asked for. To register the same
    again does nothing. NUM_CLASSES is replaced where it is 80, the default, and CLASS_NAMES where
    it is empty; nothing is registered or changed if anything below is wrong.

    Raises:
        UserError: a malformed entry; a name that belongs to other files; a bad json file
            (`check_coco_file`); categories that differ between the entries that DATASETS.TRAIN
            and TEST use (between all entries if they use none); NUM_CLASSES or CLASS_NAMES that
            differ from the categories.
    """
    entries = _parse(cfg.DATASETS.COCO_FORMAT)
    if not entries:
        return
    categories = {}
    for entry in entries:
        _check_name_is_free(entry)
        categories[entry.name] = check_coco_file(entry.json_file)
        _check_unchanged(entry, categories[entry.name])

    used = [name for name in categories if name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)]
    used = used or list(categories)
    for name in used[1:]:
        _check_agreement(used[0], categories[used[0]], name, categories[name])
    _take_classes(cfg.MODEL.VFNET, used[0], list(categories[used[0]].values()))

    for entry in entries:
        _register(entry, categories[entry.name])


def publish_class_names(cfg: CfgNode) -> None:
    """Give DATASETS.TEST[0] the class names of the config, if its metadata has none.

    With it a dumped config alone predicts with names: `DefaultPredictor.metadata` is the metadata
    of DATASETS.TEST[0], and the data set itself may be far away.
    """
    names = list(cfg.MODEL.VFNET.CLASS_NAMES)
    if names and cfg.DATASETS.TEST:
        metadata = MetadataCatalog.get(cfg.DATASETS.TEST[0])
        if not metadata.get("thing_classes"):
            metadata.thing_classes = names


def _parse(value: list[Any]) -> list[CocoFormatEntry]:
    entries: dict[str, CocoFormatEntry] = {}
    for item in value:
        is_entry = isinstance(item, (list, tuple)) and len(item) == 3
        if not is_entry or not all(isinstance(part, str) and part for part in item):
            raise UserError(
                "DATASETS.COCO_FORMAT has to be a list of [name, json file, folder of the "
                f"images], three texts each; got {item!r}."
            )
        entry = CocoFormatEntry(*item)
        if entries.setdefault(entry.name, entry) != entry:
            raise UserError(
                f'DATASETS.COCO_FORMAT names "{entry.name}" twice with different files: '
                f"{entries[entry.name]} and {entry}."
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
            f"{entry.image_root}. Choose another name."
        )


def _check_unchanged(entry: CocoFormatEntry, categories: dict[int, str]) -> None:
    # Also true of names that publish_class_names gave to a data set not registered yet.
    known = MetadataCatalog.get(entry.name).get("thing_classes")
    if known and known != list(categories.values()):
        raise UserError(
            f'"{entry.name}" is known with the classes {known}, but {entry.json_file} has '
            f"{list(categories.values())}. Choose another name, or start a new process."
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
        "and names."
    )


def _take_classes(vfnet: CfgNode, name: str, classes: list[str]) -> None:
    """Write the classes into MODEL.VFNET; touches nothing that says the same already."""
    if vfnet.NUM_CLASSES not in (_DEFAULT_NUM_CLASSES, len(classes)):
        raise UserError(
            f"MODEL.VFNET.NUM_CLASSES is {vfnet.NUM_CLASSES}, but {name} has {len(classes)} "
            f"categories ({', '.join(classes)}). Leave NUM_CLASSES out, or mend it."
        )
    if vfnet.CLASS_NAMES and list(vfnet.CLASS_NAMES) != classes:
        raise UserError(
            f"MODEL.VFNET.CLASS_NAMES is {list(vfnet.CLASS_NAMES)}, but {name} has {classes}. "
            "Leave CLASS_NAMES out, or mend it."
        )
    if vfnet.NUM_CLASSES != len(classes):
        vfnet.NUM_CLASSES = len(classes)
    if not vfnet.CLASS_NAMES:
        vfnet.CLASS_NAMES = classes


def _register(entry: CocoFormatEntry, categories: dict[int, str]) -> None:
    if entry.name not in DatasetCatalog:
        DatasetCatalog.register(
            entry.name, lambda: load_coco_json(entry.json_file, entry.image_root, entry.name)
        )
    MetadataCatalog.get(entry.name).set(
        thing_classes=list(categories.values()),
        thing_dataset_id_to_contiguous_id={id_: i for i, id_ in enumerate(categories)},
        json_file=entry.json_file,
        image_root=entry.image_root,
        evaluator_type="coco",
        from_config=True,
    )
