"""COCO's metrics, with what they are metrics of: how many ground truths of each kind there are."""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, zip_longest
from typing import Any, NamedTuple

from detectron2.evaluation import COCOEvaluator, DatasetEvaluator
from detectron2.utils import comm
from tabulate import tabulate

from ..data import evaluation_file
from ..utils.files import writing
from .submission import SubmissionEvaluator

logger = logging.getLogger(__name__)

# COCO's sizes: square pixels of an annotation's "area", and Detectron2's name of their AP. Both
# ends belong to a size, as in pycocotools: 32 x 32 is small and medium.
_SIZES = {
    "small": (0.0, 32.0**2, "APs"),
    "medium": (32.0**2, 96.0**2, "APm"),
    "large": (96.0**2, 1e5**2, "APl"),
}
# How many detections of an image COCO's AP counts.
_COCO_DETECTIONS = 100
# Above so many classes their table has three of them in a row.
_LONG_TABLE = 20


class GroundTruthCounts(NamedTuple):
    """How many boxes count as ground truth: all that are not crowds."""

    total: int
    by_size: dict[str, int]
    by_category: dict[int, int]


class Score(NamedTuple):
    """The AP of a class, or of the objects of a size, in percent; NaN without ground truth."""

    name: str
    num_gt: int
    ap: float


def build_evaluator(
    dataset_name: str, output_dir: str, detections_per_image: int = 100
) -> DatasetEvaluator:
    """Build what scores a data set, or writes its detections where it has no annotations.

    Args:
        dataset_name: a registered data set.
        output_dir: the folder for detections.
        detections_per_image: how many a detector keeps. COCO's AP counts the best 100 of an image;
            where more are kept, all of them count.
    """
    with evaluation_file(dataset_name):
        evaluator = VFNetEvaluator(
            dataset_name,
            output_dir=output_dir,
            max_dets_per_image=max(_COCO_DETECTIONS, detections_per_image),
            # Ground truth that an earlier run left there may be another by now.
            allow_cached_coco=False,
        )
    if evaluator.has_annotations:
        return evaluator
    return SubmissionEvaluator(
        dataset_name, output_dir, evaluator.image_ids, evaluator.category_ids
    )


class VFNetEvaluator(COCOEvaluator):
    """Detectron2's `COCOEvaluator`, which adds counts of ground truths and AP of every class.

    `results["vfnet"]` has, as floats: num_gt, num_gt_small, num_gt_medium, num_gt_large, and for
    each class AP-NAME (in percent) and num_gt-NAME. Crowds are not counted; sizes are COCO's, by
    "area". What has no ground truth has no AP: NaN, and words in the table that is logged. A
    detector that finds nothing has AP 0 where there are ground truths, as COCO defines it;
    Detectron2 has NaN there too.
    """

    def reset(self) -> None:
        """Begin an evaluation."""
        super().reset()
        self._seen: list[int] = []

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """Take the detections of pictures; see `COCOEvaluator.process`."""
        self._seen += [item["image_id"] for item in inputs]
        super().process(inputs, outputs)

    @property
    def has_annotations(self) -> bool:
        """Whether there is anything to compare with."""
        return bool(self._coco_api.dataset.get("annotations"))

    @property
    def image_ids(self) -> list[int]:
        """The ids of all images of the json file, ascending."""
        return sorted(self._coco_api.getImgIds())

    @property
    def category_ids(self) -> list[int]:
        """The id in the json file of each class."""
        to_class = self._metadata.get("thing_dataset_id_to_contiguous_id")
        return (
            sorted(to_class, key=to_class.__getitem__)
            if to_class
            else sorted(self._coco_api.getCatIds())
        )

    def evaluate(self, img_ids: Sequence[int] | None = None) -> dict[str, Any]:
        """Compute the metrics; see `COCOEvaluator.evaluate`. Empty on other processes.

        Raises:
            WriteError: the detections cannot be written.
        """
        seen = set(chain.from_iterable(comm.all_gather(self._seen)))
        with writing(self._output_dir):
            results = super().evaluate(img_ids)
        if "bbox" not in results:
            return results
        names = {c["id"]: c["name"] for c in self._coco_api.loadCats(self.category_ids)}
        annotations = self._coco_api.anns.values()
        if img_ids is not None:
            wanted = set(img_ids)
            annotations = [a for a in annotations if a["image_id"] in wanted]
        counts = count_ground_truths(annotations, names)
        bbox = results["bbox"]
        if counts.total and math.isnan(bbox["AP"]):
            logger.warning(f"{self._metadata.name}: nothing was detected, which is AP 0")
            results["bbox"] = bbox = _scores_of_nothing(counts, names)
        classes = [
            Score(name, counts.by_category[id_], bbox["AP"] if len(names) == 1 else ap)
            for id_, name in names.items()
            for ap in [bbox.get(f"AP-{name}", math.nan)]
        ]
        sizes = [Score(size, counts.by_size[size], bbox[ap]) for size, (*_, ap) in _SIZES.items()]
        results["vfnet"] = {
            "num_gt": float(counts.total),
            **{f"num_gt_{score.name}": float(score.num_gt) for score in sizes},
            **{f"AP-{score.name}": score.ap for score in classes},
            **{f"num_gt-{score.name}": float(score.num_gt) for score in classes},
        }
        sizes.append(Score("all", counts.total, bbox["AP"]))
        missing = len(set(img_ids if img_ids is not None else self.image_ids) - seen)
        missed = f" ({missing} pictures were left out: their objects count as missed)"
        logger.info(
            f"AP on {self._metadata.name}, in percent, and what it is the AP of"
            f"{missed if missing else ''}:\n"
            f"{_table('class', classes)}\n\n{_table('size', sizes)}"
        )
        return results


def count_ground_truths(
    annotations: Iterable[Mapping[str, Any]], category_ids: Iterable[int]
) -> GroundTruthCounts:
    """Count annotations in COCO's format as COCO's evaluation of boxes does.

    Args:
        annotations: with "area" in square pixels, "category_id" and perhaps "iscrowd".
        category_ids: of the classes that are evaluated.
    """
    by_category = dict.fromkeys(category_ids, 0)
    counted = [
        a for a in annotations if not a.get("iscrowd", 0) and a["category_id"] in by_category
    ]
    for annotation in counted:
        by_category[annotation["category_id"]] += 1
    by_size = {
        size: sum(low <= a["area"] <= high for a in counted)
        for size, (low, high, _) in _SIZES.items()
    }
    return GroundTruthCounts(len(counted), by_size, by_category)


def drop_undefined(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return results without the numbers that are not finite, at any depth.

    JSON has no NaN: a metrics.json that holds one is unreadable to most programs but Python.
    """
    return {
        name: drop_undefined(value) if isinstance(value, Mapping) else value
        for name, value in results.items()
        if not (isinstance(value, float) and not math.isfinite(value))
    }


def _scores_of_nothing(counts: GroundTruthCounts, names: Mapping[int, str]) -> dict[str, float]:
    """Detectron2's results of boxes for a detector that found none of the ground truths."""
    of = {"AP": counts.total, "AP50": counts.total, "AP75": counts.total}
    of.update({ap: counts.by_size[size] for size, (_, _, ap) in _SIZES.items()})
    if len(names) > 1:
        of.update({f"AP-{name}": counts.by_category[id_] for id_, name in names.items()})
    return {name: 0.0 if count else math.nan for name, count in of.items()}


def _table(what: str, scores: Sequence[Score]) -> str:
    rows = [(score.name.replace("|", "\\|"), score.num_gt, _words(what, score)) for score in scores]
    height = math.ceil(len(rows) / (3 if len(rows) > _LONG_TABLE else 1))
    columns = [rows[start : start + height] for start in range(0, len(rows), height)]
    lines = [chain(*line) for line in zip_longest(*columns, fillvalue=("", "", ""))]
    headers = [what, "ground truths", "AP"] * len(columns)
    # As text: a class may be called "1e3".
    return tabulate(lines, headers, tablefmt="pipe", disable_numparse=True)


def _words(what: str, score: Score) -> str:
    if not score.num_gt:
        return "none" if (what, score.name) == ("size", "all") else f"none of this {what}"
    return "not computed" if math.isnan(score.ap) else f"{score.ap:.1f}"
