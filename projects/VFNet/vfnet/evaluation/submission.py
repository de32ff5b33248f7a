"""Test sets without annotations: the detections as a file for a server that has them."""

import json
import logging
import os
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import BoxMode
from detectron2.utils import comm

from ..errors import UserError
from ..utils.files import write_aside

logger = logging.getLogger(__name__)

# Of COCO's test-dev a hundred detections per image are two million: written with all their digits,
# the file is too large for servers to read in time.
_BOX_DECIMALS, _SCORE_DECIMALS = 2, 5
# Detectron2's names of COCO's test sets: year and part.
_COCO_TEST = re.compile(r"^coco_(\d{4})_(test(?:-dev)?)$")


class ImageDetections(NamedTuple):
    """Detections of one image: boxes (n, 4) x1, y1, x2, y2 in its pixels; scores, classes (n,)."""

    image_id: int
    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray


@dataclass
class SubmissionEvaluator(DatasetEvaluator):
    """Writes the detections of all processes as COCO's result format asks, as json and zip."""

    dataset_name: str
    output_dir: str  # made if it is absent
    image_ids: Sequence[int]  # of all images of the set
    category_ids: Sequence[int]  # in the json file, of each class that the detector predicts

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all detections."""
        self._found: list[ImageDetections] = []

    def process(self, inputs: Sequence[dict], outputs: Sequence[dict]) -> None:
        """Take the detections of some images; see `DatasetEvaluator.process`."""
        for image, output in zip(inputs, outputs):
            found = output["instances"].to("cpu")
            boxes, scores = found.pred_boxes.tensor.float().numpy(), found.scores.float().numpy()
            classes, count = found.pred_classes.numpy(), len(self.category_ids)
            if classes.max(initial=-1) >= count:
                raise UserError(
                    f"{self.dataset_name} has {count} classes, but class {classes.max()} was "
                    f"detected; name weights of a detector of {count} classes, and its config"
                )
            self._found.append(ImageDetections(image["image_id"], boxes, scores, classes))

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
        path = os.path.join(self.output_dir, submission_name(self.dataset_name))
        write_submission(path, detections, self.category_ids)
        counts = [len(found.scores) for found in detections]
        _log(self.dataset_name, path, counts)
        return {
            "submission": {"num_images": float(len(counts)), "num_detections": float(sum(counts))}
        }


def submission_name(dataset_name: str) -> str:
    """Return the name that COCO's server asks for, without its ending.

    coco_2017_test-dev gives "detections_test-dev2017_vfnet_results"; other data sets stand in it
    with their own names.
    """
    safe = re.sub(r"[^-.\w]", "_", _COCO_TEST.sub(r"\2\1", dataset_name))
    return f"detections_{safe}_vfnet_results"


def coco_entries(found: ImageDetections, category_ids: Sequence[int]) -> list[dict[str, Any]]:
    """Return the detections of one image in COCO's result format, best first.

    Boxes are [x, y, width, height] in pixels with 2 decimals, no side shorter than 0.01; scores
    have 5 decimals. Rounded scores are never in another order.

    Source:
        https://cocodataset.org/#format-results
    """
    order = np.argsort(-found.scores, kind="stable")
    # As float64: what has few decimals in float32 has many when written.
    boxes, scores = found.boxes[order].astype(float), found.scores[order].astype(float)
    boxes = BoxMode.convert(boxes, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS).round(_BOX_DECIMALS)
    boxes[:, 2:] = boxes[:, 2:].clip(min=10.0**-_BOX_DECIMALS)  # no area is no box to some readers
    ids = [category_ids[class_] for class_ in found.classes[order]]
    return [
        {"image_id": found.image_id, "category_id": id_, "bbox": box, "score": score}
        for id_, box, score in zip(ids, boxes.tolist(), scores.round(_SCORE_DECIMALS).tolist())
    ]


def write_submission(
    path: str, detections: Iterable[ImageDetections], category_ids: Sequence[int]
) -> None:
    """Write `path`.json, and `path`.zip which holds that json alone, at its top level."""
    # As text image by image: two million entries would take gigabytes.
    texts = (json.dumps(coco_entries(f, category_ids), separators=(",", ":")) for f in detections)
    content = f"[{','.join(text[1:-1] for text in texts if text != '[]')}]".encode()
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with write_aside(f"{path}.json") as file:
        file.write(content)
    with (
        write_aside(f"{path}.zip") as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        packed.writestr(f"{os.path.basename(path)}.json", content)


def _check_images(name: str, seen: Sequence[int], expected: Sequence[int]) -> None:
    for what, ids in (
        ("not predicted", set(expected) - set(seen)),
        ("predicted more than once", {id_ for id_, n in Counter(seen).items() if n > 1}),
        ("predicted, but are not in its json file", set(seen) - set(expected)),
    ):
        if ids:
            raise UserError(
                f"{name}: expected each of its {len(expected)} images once, but {len(ids)} were "
                f"{what} (ids {sorted(ids)[:10]}), so no file was written; evaluate the whole set, "
                "with Detectron2's test loader"
            )


def _log(name: str, path: str, counts: Sequence[int]) -> None:
    text = (
        f"{name} has no annotations here, so no AP is computed and none is to be expected; its "
        f"detections are in {path}.json and, packed, {path}.zip: {len(counts)} images, all of the "
        f"set, {counts.count(0)} of them without a detection; {sum(counts)} detections"
    )
    if not sum(counts):
        text += ". Nothing was detected at all: check MODEL.WEIGHTS and SCORE_THRESH_TEST"
    if _COCO_TEST.match(name):
        text += ". The zip is what COCO's server takes: https://cocodataset.org/#upload"
    logger.info(text)
