"""An exported file as a detector: called as Detectron2's models are in evaluation mode."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.data import transforms as T
from detectron2.modeling import detector_postprocess
from detectron2.structures import Boxes, Instances
from torch import Tensor

from ..data import read_picture
from ..data.picture_input import model_input
from ..errors import UserError
from .description import Description, read_description
from .padding import build_resize, pad_together
from .runtimes import RUNTIMES, SUFFIXES, Runtime


class ExportedDetector:
    """A file of `tools/export.py` and its json, run by ONNX Runtime or OpenVINO.

    `description`: what the json says. `resize`: resizes a picture as the file wants it.
    """

    description: Description
    resize: T.Augmentation

    def __init__(self, description: Description, runtime: Runtime):
        self.description = description
        self.resize = build_resize(description)
        self.run = runtime

    def __call__(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Instances]]:
        """Detect objects in any number of pictures.

        Args:
            batched_inputs: "image": (3, H, W), 0 to 255, in `description.input_format`. "height",
                "width": of the result; H and W if left out.

        Returns:
            for each image {"instances": Instances}, on the CPU, best first.

        Raises:
            UserError: the file gives no detections (`raw`), or an image is larger than it takes.
        """
        self.check_detects()
        batch, results = self.description.batch, []
        for first in range(0, len(batched_inputs), batch):
            items = batched_inputs[first : first + batch]
            outputs = self.run(*self.arrays([item["image"] for item in items]))
            results += [
                {"instances": _instances(item, *(outputs[name][i] for name in _FIELDS))}
                for i, item in enumerate(items)
            ]
        return results

    def check_detects(self) -> None:
        """Check that the file gives detections.

        Raises:
            UserError: it was exported raw.
        """
        if self.description.raw:
            raise UserError(
                "this file was exported with --raw and gives scores and boxes of all locations, no "
                "detections: export without --raw to predict or to score"
            )

    def read(self, picture: str) -> Tensor:
        """Read a picture's file and resize it -> what a call takes as "image".

        Raises:
            UserError: it cannot be read.
        """
        image = read_picture(picture, self.description.input_format)
        return model_input(image, self.resize)["image"]

    def arrays(self, images: list[Tensor]) -> tuple[np.ndarray, np.ndarray]:
        """What the file takes of images (3, H, W), at most as many as `description.batch`.

        Returns:
            images (N, 3, H, W) uint8 RGB, and sizes (N, 2) int64; what no image fills is 0.

        Raises:
            UserError: an image is larger than the file takes.
        """
        rgb = self.description.input_format == "RGB"
        pixels = [(image if rgb else image.flip(0)).cpu() for image in images]
        return pad_together(pixels, self.description.batch, self.description.size)


_FIELDS = ("boxes", "scores", "classes", "number")


def _instances(
    item: dict[str, Any],
    boxes: np.ndarray,
    scores: np.ndarray,
    classes: np.ndarray,
    number: np.ndarray,
) -> Instances:
    height, width = item["image"].shape[1:]
    boxes, scores, classes = (torch.from_numpy(x[:number]) for x in (boxes, scores, classes))
    found = Instances((height, width), pred_boxes=Boxes(boxes), scores=scores, pred_classes=classes)
    return detector_postprocess(found, item.get("height", height), item.get("width", width))


def is_exported(path: str | os.PathLike[str]) -> bool:
    """Whether a path names a file for another runtime, not weights; it need not be there."""
    return Path(path).suffix.lower() in SUFFIXES.values()


def load_exported(path: str | os.PathLike[str]) -> ExportedDetector:
    """Load a .onnx or .xml file that `tools/export.py` wrote.

    Raises:
        UserError: it is missing or not whole, its json or a file of it is missing or does not fit,
            or its runtime is not installed.
    """
    file = Path(path)
    if file.suffix not in SUFFIXES.values():
        raise UserError(
            f"expected a file that tools/export.py wrote, {' or '.join(SUFFIXES.values())}, got "
            f"{file}"
        )
    if not file.is_file():
        raise UserError(f"there is no file {file}: name one that tools/export.py wrote")
    description = read_description(file)
    if SUFFIXES.get(description.format) != file.suffix:
        raise UserError(f"the json beside {file} describes the format {description.format!r}")
    return ExportedDetector(description, RUNTIMES[description.format](file))
