"""The scores of an exported file, and of the detector that it was made of, on a data set."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from ..data import build_test_loader, check_datasets, register_test_sets
from ..data.sources import find_files
from ..engine import Trainer
from ..errors import UserError
from .description import Description
from .exported import ExportedDetector

# AP in percent, that a file may lose.
LARGEST_LOSS = 0.5


class Scores(NamedTuple):
    """AP in percent of the detector in torch and of its file, on the same pictures."""

    dataset: str
    torch: float
    file: float

    @property
    def lost(self) -> float:
        """What the file lost."""
        return self.torch - self.file


def find_dataset(cfg: CfgNode, words: Sequence[str]) -> str:
    """Return the name of the data set that is meant, registered; "": none is.

    Args:
        words: a registered name, or one of DATASETS.COCO_FORMAT; or a json file in COCO's format
            and the folder of its pictures.

    Raises:
        UserError: the json or the folder is not usable, or has other classes than the config.
    """
    cfg = cfg.clone()
    cfg.defrost()
    if len(words) == 2 and words[0].endswith(".json"):
        cfg.DATASETS.COCO_FORMAT = [[words[0], *words]]
    elif len(words) != 1 or words[0] not in (
        *DatasetCatalog,
        *(entry[0] for entry in cfg.DATASETS.COCO_FORMAT),
    ):
        return ""
    cfg.DATASETS.TEST = words[:1]
    register_test_sets(cfg)
    check_datasets(words[:1])
    return words[0]


def find_pictures(cfg: CfgNode, words: Sequence[str]) -> list[str]:
    """Return the files of a data set, named as for `find_dataset`, or of what `find_files` takes.

    Raises:
        UserError: as both.
    """
    if dataset := find_dataset(cfg, words):
        return [record["file_name"] for record in DatasetCatalog.get(dataset)]
    return [str(file) for file in find_files(words)]


def compare_scores(
    cfg: CfgNode,
    exported: ExportedDetector,
    detector: Callable[[list[dict]], list[dict]],
    dataset: str,
) -> Scores:
    """Score a file, and the detector that it was made of, on a registered data set.

    Raises:
        UserError: as `check_scorable`, or the data set has no boxes.
    """
    records = DatasetCatalog.get(dataset)
    boxes = (a for record in records for a in record.get("annotations", ()))
    if all(box.get("iscrowd", 0) for box in boxes):  # crowds have no AP
        raise UserError(f"{dataset} has no boxes to score with: name a data set with annotations")
    with tempfile.TemporaryDirectory() as folder:
        cfg = cfg.clone()
        cfg.defrost()
        cfg.DATASETS.TEST, cfg.OUTPUT_DIR = (dataset,), folder
        cfg.TEST.AUG.ENABLED, cfg.TEST.SLICE.SIZE = False, 0
        cfg.TEST.VALIDATION_LOSS = False
        check_scorable(exported, cfg)
        # pycocotools prints what it does.
        with contextlib.redirect_stdout(io.StringIO()):
            found = [score_as(exported, cfg, model) for model in (detector, exported)]
    return Scores(dataset, *(results["bbox"]["AP"] for results in found))


def check_scorable(exported: ExportedDetector, cfg: CfgNode) -> None:
    """Check that a file can be scored on the registered data sets of DATASETS.TEST.

    Raises:
        UserError: it gives no detections, its classes are not those of a data set, or test-time
            augmentation or slices are asked for.
    """
    exported.check_detects()
    if cfg.TEST.AUG.ENABLED or cfg.TEST.SLICE.SIZE:
        raise UserError(
            "test-time augmentation and slices are scored with a detector in torch, not with an "
            "exported file: set TEST.AUG.ENABLED False and TEST.SLICE.SIZE 0, or name the weights "
            "that the file was made of"
        )
    for name in cfg.DATASETS.TEST:
        check_classes(exported.description, name, MetadataCatalog.get(name).get("thing_classes"))


def check_classes(description: Description, dataset: str, classes: Sequence[str] | None) -> None:
    """Check that a file knows the classes of a data set; None: the data set does not name them.

    Raises:
        UserError: it does not.
    """
    own = description.class_names
    if classes is None or list(classes) == own:
        return
    if len(classes) != len(own):
        difference = f"{len(classes)} classes, the file {len(own)}"
    else:
        number = next(i for i, pair in enumerate(zip(classes, own)) if pair[0] != pair[1])
        difference = f"{classes[number]!r} as class {number}, the file {own[number]!r}"
    raise UserError(
        f"{dataset} has {difference}: score the file on data with the classes of its json"
    )


def score_exported(cfg: CfgNode, exported: ExportedDetector) -> dict[str, Any]:
    """Score a file on DATASETS.TEST, as `Trainer.test` scores a model."""
    return score_as(exported, cfg, exported)


def score_as(
    exported: ExportedDetector, cfg: CfgNode, model: Callable[[list[dict]], list[dict]]
) -> dict[str, Any]:
    """Score a model on DATASETS.TEST, with pictures resized as `exported` wants them."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.INPUT.FORMAT = exported.description.input_format
    if exported.description.max_detections is not None:
        cfg.TEST.DETECTIONS_PER_IMAGE = exported.description.max_detections

    class Resizing(Trainer):
        @classmethod
        def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Iterable[Any]:
            return build_test_loader(cfg, dataset_name, exported.resize)

    return Resizing.test(cfg, model)
