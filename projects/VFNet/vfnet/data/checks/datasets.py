"""Are the data sets that a config names there?"""

import os
from collections.abc import Iterable

from detectron2.data import DatasetCatalog, MetadataCatalog

from ...errors import UserError


def check_datasets(names: Iterable[str]) -> None:
    """Check that data sets are registered, that their files are there, that their classes agree.

    Raises:
        UserError: names the first data set that cannot be used and says what to do.
    """
    names = list(dict.fromkeys(names))
    for name in names:
        _check_registered(name)
        _check_files(name)
    known = [name for name in names if MetadataCatalog.get(name).get("thing_classes")]
    for name in known[1:]:
        _check_same_classes(known[0], name)


def is_there(path: str) -> bool:
    """Whether a file or folder is there; what has a scheme (s3://) is taken to be."""
    return "://" in path or os.path.exists(path)


def _check_registered(name: str) -> None:
    if name in DatasetCatalog:
        return
    # Detectron2's own sets come along with every installation; what the user added does not.
    added = sorted(n for n in DatasetCatalog if n.startswith("shapes_") or _is_from_config(n))
    raise UserError(
        f'"{name}" is not a registered data set. Own data in COCO\'s format is named in '
        f"DATASETS.COCO_FORMAT as [name, json file, folder of the images]; registered beside "
        f"Detectron2's own: {', '.join(added)}"
    )


def _is_from_config(name: str) -> bool:
    return bool(MetadataCatalog.get(name).get("from_config"))


def _check_files(name: str) -> None:
    metadata = MetadataCatalog.get(name)
    for path in (metadata.get("json_file"), metadata.get("image_root")):
        if path and not is_there(path):
            raise UserError(f"{name}: {path} is not there. {_advice(name)}")


def _advice(name: str) -> str:
    if _is_from_config(name):
        return "Fix DATASETS.COCO_FORMAT"
    root = os.environ.get("DETECTRON2_DATASETS", "datasets")
    return (
        "Set the environment variable DETECTRON2_DATASETS to the folder that holds coco/ "
        f'(now: "{root}"), or name your own data in DATASETS.COCO_FORMAT'
    )


def _check_same_classes(first: str, second: str) -> None:
    classes = [MetadataCatalog.get(name).thing_classes for name in (first, second)]
    if classes[0] != classes[1]:
        raise UserError(
            f"{first} and {second} have different classes: {classes[0]} and {classes[1]}. "
            "Data sets of one run have to have the same, in the same order"
        )
