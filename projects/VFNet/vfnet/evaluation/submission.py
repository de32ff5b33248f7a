"""Test sets without annotations: the detections as a file for a server that has them."""

import json
import logging
import os
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import BoxMode, Instances
from detectron2.utils import comm

from ..errors import UserError
from ..utils.files import write_aside

logger = logging.getLogger(__name__)

# Of COCO's test-dev a hundred detections per image are two million: written with all their digits,
# the file is too large for servers to read in time. These decimals are 0.01 pixel and a score's
# 1e-5; rounded scores are never in another order, and equal ones stay in the order of the file.
_BOX_DECIMALS, _SCORE_DECIMALS = 2, 5
_SHORTEST_SIDE = 10.0**-_BOX_DECIMALS
# Detectron2's names of COCO's test sets: year and part.
_COCO_TEST = re.compile(r"^coco_(\d{4})_(test(?:-dev)?)$")


class ImageDetections(NamedTuple):
    """Detections of one image: boxes (n, 4) x1, y1, x2, y2 in its pixels; scores, classes (n,)."""

    image_id: int
    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray


class SubmissionEvaluator(DatasetEvaluator):
    """Writes the detections of all processes as COCO's result format asks, as json and zip."""

    def __init__(
        self,
        dataset_name: str,
        output_dir: str,
        image_ids: Sequence[int],
        category_ids: Sequence[int],
    ) -> None:
        """
        Args:
            dataset_name: of the data set, which names the files (`submission_name`).
            output_dir: the folder they are written to; made if it is absent.
            image_ids: of all images of the set.
            category_ids: the id in the json file of each class that the detector predicts.
        """
        self.dataset_name = dataset_name
        self.output_dir = output_dir
        self.image_ids = image_ids
        self.category_ids = category_ids
        self.reset()

    def reset(self) -> None:
        """Forget all detections."""
        self._found: list[ImageDetections] = []

    def process(self, inputs: Sequence[dict], outputs: Sequence[dict]) -> None:
        """Take the detections of some images; see `DatasetEvaluator.process`."""
        for image, output in zip(inputs, outputs):
            found = _to_arrays(image["image_id"], output["instances"])
            highest = found.classes.max(initial=-1)
            if highest >= len(self.category_ids):
                raise UserError(
                    f"{self.dataset_name} has {len(self.category_ids)} classes, but class "
                    f"{highest} was detected; set MODEL.VFNET.NUM_CLASSES to "
                    f"{len(self.category_ids)} and give weights that were trained with it"
                )
            self._found.append(found)

    def evaluate(self) -> dict[str, Any]:
        """Write the files, on the first process.

        Returns:
            `{"submission": {"num_images": …, "num_detections": …}}`, empty on other processes.

        Raises:
            UserError: on every process, if an image of the set was predicted twice or not at all.
        """
        seen = chain.from_iterable(comm.all_gather([found.image_id for found in self._found]))
        _check_images(self.dataset_name, list(seen), self.image_ids)
        gathered = comm.gather(self._found, dst=0)
        if not comm.is_main_process():
            return {}
        detections = sorted(chain.from_iterable(gathered), key=lambda found: found.image_id)
        files = write_submission(
            os.path.join(self.output_dir, submission_name(self.dataset_name)),
            detections,
            self.category_ids,
        )
        logger.info(_describe(self.dataset_name, files, detections))
        count = sum(len(found.scores) for found in detections)
        return {
            "submission": {"num_images": float(len(detections)), "num_detections": float(count)}
        }


def submission_name(dataset_name: str) -> str:
    """Return the name that COCO's server asks for, without its ending.

    coco_2017_test-dev gives "detections_test-dev2017_vfnet_results"; other data sets stand in it
    with their own names.
    """
    split = _COCO_TEST.sub(r"\2\1", dataset_name)
    safe = re.sub(r"[^-.\w]", "_", split)
    return f"detections_{safe}_vfnet_results"


def coco_entries(found: ImageDetections, category_ids: Sequence[int]) -> list[dict[str, Any]]:
    """Return the detections of one image in COCO's result format, best first.

    Boxes are [x, y, width, height] in pixels with 2 decimals, no side shorter than 0.01; scores
    have 5 decimals.

    Source:
        https://cocodataset.org/#format-results
    """
    order = np.argsort(-found.scores, kind="stable")
    boxes = BoxMode.convert(
        found.boxes[order].astype(np.float64), BoxMode.XYXY_ABS, BoxMode.XYWH_ABS
    )
    boxes = boxes.round(_BOX_DECIMALS)
    # A box without an area is no box to some readers.
    boxes[:, 2:] = boxes[:, 2:].clip(min=_SHORTEST_SIDE)
    # As float64: what has few decimals in float32 has many when written.
    scores = found.scores[order].astype(np.float64).round(_SCORE_DECIMALS)
    return [
        {"image_id": found.image_id, "category_id": category_ids[class_], "bbox": box, "score": s}
        for class_, box, s in zip(found.classes[order].tolist(), boxes.tolist(), scores.tolist())
    ]


def write_submission(
    path: str, detections: Iterable[ImageDetections], category_ids: Sequence[int]
) -> tuple[str, str]:
    """Write `path`.json, and `path`.zip which holds that json alone, at its top level.

    Returns:
        the paths of the two files.
    """
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    json_path, zip_path = path + ".json", path + ".zip"
    separator = ""
    with write_aside(json_path) as plain:
        plain.write(b"[")
        # Image by image: the whole as one text would take gigabytes.
        for found in detections:
            for entry in coco_entries(found, category_ids):
                plain.write((separator + json.dumps(entry, separators=(",", ":"))).encode())
                separator = ","
        plain.write(b"]")
        plain.flush()
        with write_aside(zip_path) as packed, zipfile.ZipFile(packed, "w") as archive:
            name = os.path.basename(json_path)
            archive.write(plain.name, name, compress_type=zipfile.ZIP_DEFLATED)
    return json_path, zip_path


def _to_arrays(image_id: int, instances: Instances) -> ImageDetections:
    return ImageDetections(
        image_id,
        instances.pred_boxes.tensor.detach().float().cpu().numpy(),
        instances.scores.detach().float().cpu().numpy(),
        instances.pred_classes.cpu().numpy(),
    )


def _check_images(name: str, seen: Sequence[int], expected: Sequence[int]) -> None:
    twice = [id_ for id_, count in Counter(seen).items() if count > 1]
    for what, ids in (
        ("not predicted", set(expected) - set(seen)),
        ("predicted more than once", set(twice)),
        ("predicted, but are not in its json file", set(seen) - set(expected)),
    ):
        if ids:
            raise UserError(
                f"{name}: expected each of its {len(expected)} images once, but {len(ids)} were "
                f"{what} (ids {sorted(ids)[:10]}), so no file was written; evaluate the whole set, "
                "with Detectron2's test loader"
            )


def _describe(name: str, files: Sequence[str], detections: Sequence[ImageDetections]) -> str:
    """Say what was written, and what to do with it."""
    sizes = [_size(os.path.getsize(file)) for file in files]
    counts = [len(found.scores) for found in detections]
    lines = [
        f"{name} has no annotations here, so no AP is computed and none is to be expected; its "
        "detections are in",
        f"  {files[0]} ({sizes[0]})",
        f"  {files[1]} ({sizes[1]}, the same json packed)",
        f"{len(counts)} images, all of the set, {counts.count(0)} of them without a detection; "
        f"{sum(counts)} detections",
    ]
    if not sum(counts):
        lines.append(
            "Nothing was detected at all, so the json is an empty list: check MODEL.WEIGHTS and "
            "MODEL.VFNET.SCORE_THRESH_TEST"
        )
    if _COCO_TEST.match(name):
        lines.append(
            "The zip is what COCO's server takes: https://cocodataset.org/#upload says where it "
            "is. For boxes it was https://codalab.lisn.upsaclay.fr/competitions/7384, where "
            "submissions were closed as of April 2026, without a successor "
            "(https://github.com/cocodataset/cocoapi/issues/691). It allows few submissions: "
            "try on coco_2017_val first"
        )
    return "\n".join(lines)


def _size(count: int) -> str:
    """Bytes as text: 1234567 is "1.2 MB"."""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
