"""What a run left in its folder: the numbers that it logged, and how its detections do."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from ..config import load_config
from ..data import check_datasets, evaluation_file, register_test_sets
from ..data.checks.coco_json import is_number
from ..errors import UserError
from ..evaluation.precision_recall import ClassCurve, class_curves
from ..utils.files import is_special_file

RESULTS = "coco_instances_results.json"


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Return one dict per iteration, in order; of an iteration written twice, the later values.

    Lines that are not metrics, such as half a line of a run that was killed, are left out, and so
    are values that are not finite numbers; one line on stderr counts the lines.

    Raises:
        UserError: the file is missing, cannot be read or holds no metrics.
    """
    by_iteration: dict[int, dict[str, float]] = {}
    unreadable = 0
    for line in _read_text(path, "Detectron2's metrics.json").splitlines():
        values = _parse_metrics(line)
        if values is None:
            unreadable += bool(line.strip())
        else:
            by_iteration.setdefault(int(values["iteration"]), {}).update(values)
    if unreadable:
        print(f"{path}: {unreadable} lines are not metrics and are left out", file=sys.stderr)
    if not by_iteration:
        raise UserError(f"expected Detectron2's metrics.json, found no metrics in {path}")
    return [by_iteration[iteration] for iteration in sorted(by_iteration)]


def series(metrics: Sequence[dict[str, float]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the iterations at which `name` was written, counted from 1, and its values."""
    rows = [(row["iteration"] + 1, row[name]) for row in metrics if name in row]
    table = np.array(rows, dtype=np.float64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def loss_names(metrics: Sequence[dict[str, float]]) -> list[str]:
    """Return the names of the losses that were written, whichever detector's: their sum first."""
    losses = [name for name in _names(metrics) if name.startswith("loss_")]
    return [name for name in ("total_loss", *losses) if name in _names(metrics)]


def validation_names(metrics: Sequence[dict[str, float]], loss: str) -> list[str]:
    """Return the names under which a loss on test sets was written (TEST.VALIDATION_LOSS).

    With several data sets their names begin with the data set's.
    """
    name = f"validation/{loss}"
    return [found for found in _names(metrics) if found == name or found.endswith(f"/{name}")]


def ap_names(metrics: Sequence[dict[str, float]], of_classes: bool) -> list[str]:
    """Return the names of the APs that were written: those of classes, or AP, AP50 and AP75.

    With several data sets their names begin with the data set's.
    """
    found = []
    for name in _names(metrics):
        what = name.partition("bbox/")[2]
        if what.startswith("AP-") if of_classes else what in ("AP", "AP50", "AP75"):
            found.append(name)
    return found


def smooth(values: np.ndarray, window: int = 5) -> np.ndarray:
    """Average each value with its neighbours, fewer of them at both ends."""
    kernel = np.ones(window)
    # The full convolution, cut by hand: mode "same" is as long as the kernel where that is longer.
    middle = slice(window // 2, window // 2 + len(values))
    count = np.convolve(np.ones(len(values)), kernel)[middle]
    return np.convolve(values, kernel)[middle] / count


class Evaluation(NamedTuple):
    """What a run's last evaluation compared.

    dataset: its name. truth: the content of its json file. results: COCO's, of all images.
    category_ids: the ids of the classes; None: all of `truth`. most: how many detections of an
    image count.
    """

    dataset: str
    truth: Mapping[str, Any]
    results: Sequence[Mapping[str, Any]]
    category_ids: list[int] | None
    most: int


def read_evaluation(folder: Path, dataset: str | None = None) -> Evaluation:
    """Read the detections of a run's last evaluation, and the ground truth.

    Args:
        folder: the run's OUTPUT_DIR, with its config.yaml.
        dataset: one of DATASETS.TEST; None: the first.

    Raises:
        UserError: there is no config, no data set, no detections or no ground truth.
    """
    cfg = load_config(str(folder / "config.yaml"))
    dataset = dataset or next(iter(cfg.DATASETS.TEST), "")
    if dataset not in cfg.DATASETS.TEST:
        raise UserError(
            f"expected one of the data sets that the run was tested on, DATASETS.TEST "
            f"{tuple(cfg.DATASETS.TEST)}; got {dataset!r}"
        )
    detections = folder / "inference"
    if len(cfg.DATASETS.TEST) > 1:
        detections /= dataset
    results = _read_json(detections / RESULTS, "the detections of an evaluation")
    truth, category_ids = _ground_truth(cfg, dataset, detections)
    most = max(100, cfg.TEST.DETECTIONS_PER_IMAGE)
    return Evaluation(dataset, truth, results, category_ids, most)


def curves_of_evaluation(evaluation: Evaluation) -> list[ClassCurve]:
    """Precision and recall of each class at IoU 0.5.

    Raises:
        UserError: the detections are damaged, or not of this data set.
    """
    dataset, truth, results, category_ids, most = evaluation
    try:
        return class_curves(truth, results, 0.5, most, category_ids)
    except (AssertionError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"expected detections of {dataset} in {RESULTS}: {type(error).__name__} {error}"
        ) from error


def curves_of_run(folder: Path, dataset: str | None = None) -> tuple[str, list[ClassCurve]]:
    """Precision and recall of what the run's last evaluation detected.

    Args:
        folder, dataset: as for `read_evaluation`.

    Returns:
        the data set's name and a curve for each class.

    Raises:
        UserError: as `read_evaluation` and `curves_of_evaluation`.
    """
    evaluation = read_evaluation(folder, dataset)
    return evaluation.dataset, curves_of_evaluation(evaluation)


def _ground_truth(cfg: CfgNode, dataset: str, folder: Path) -> tuple[Any, list[int] | None]:
    """The content of a data set's json file, and the ids in it of the classes."""
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (), (dataset,)
    register_test_sets(cfg)
    check_datasets([dataset])
    metadata = MetadataCatalog.get(dataset)
    # Of a data set in another format the evaluation left a copy in COCO's.
    file = metadata.get("json_file") or folder / f"{dataset}_coco_format.json"
    with evaluation_file(dataset):
        evaluated = metadata.get("json_file") or file
        truth = _read_json(Path(evaluated), f"the ground truth of {dataset}")
    if not (isinstance(truth, dict) and truth.get("annotations")):
        raise UserError(f"expected annotations in {file}, found none: nothing to compare with")
    to_class = metadata.get("thing_dataset_id_to_contiguous_id")
    return truth, list(to_class) if to_class else None


def _parse_metrics(line: str) -> dict[str, float] | None:
    """The finite numbers of a line; None if it is no metrics of an iteration."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict):
        return None
    numbers = {name: value for name, value in values.items() if is_number(value)}
    iteration = numbers.get("iteration", -1)
    return numbers if iteration >= 0 and iteration == int(iteration) else None


def _names(metrics: Sequence[dict[str, float]]) -> list[str]:
    return list(dict.fromkeys(name for row in metrics for name in row))


def _read_text(path: Path, what: str) -> str:
    if not path.exists():
        raise UserError(f"expected {what}, found no file at {path}")
    if is_special_file(path):
        raise UserError(f"expected {what}, but {path} is no regular file")
    try:
        # What is not UTF-8 is in a line that is no metrics, or no json.
        return path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise UserError(f"expected {what}: {path} cannot be read ({error})") from error


def _read_json(path: Path, what: str) -> Any:
    text = _read_text(path, what)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"expected {what}: {path} is not a whole json file ({error})") from error
