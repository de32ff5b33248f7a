"""Weights become a predictor of pictures: what the demo, the tools and users of Python share."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.structures import Instances

from .config import detector_node
from .data.picture_input import PictureInput, load_picture, model_input
from .data.sources import Skip, expand_sources, read_pictures
from .errors import UserError
from .export.description import description_path
from .export.exported import is_exported, load_exported
from .loading import (
    build_predictor,
    category_ids,
    class_names,
    load_config_for,
    load_prediction_config,
)
from .modeling.locations import padded_size
from .selection import Selection, find_classes
from .slicing import SlicedDetector, Slicing, slicing_of
from .utils.files import sha256
from .utils.text import as_utf8
from .utils.threads import read_ahead

__all__ = ["Predictor", "build_predictor", "class_names", "load_prediction_config"]

# Batches of pictures that `stream` reads before it predicts: among so many, some have one size.
_BATCHES_AHEAD = 2


class Predictor:
    """Detects objects in pictures, with the weights of a detector or its exported file.

        predictor = Predictor("vfnet://vfnet_R50_1x", confidence_threshold=0.3)
        instances = predictor("picture.jpg")["instances"]

    `class_names`: the name of each class, by its id; `most_detections`: of a picture, by the config
    or the exported file, None: no limit; `times_full`: how often so many were found, of whatever
    classes, in a picture or slice, which may hold more.
    """

    class_names: list[str]
    _config: CfgNode | None
    _config_hash: str
    _slicing: Slicing | None
    _nms_threshold: float | None
    most_detections: int | None

    def __init__(
        self,
        weights: str | os.PathLike | None,
        config: str | os.PathLike | CfgNode | None = None,
        *,
        overrides: Sequence[Any] = (),
        confidence_threshold: float | None = None,
        classes: Sequence[str | int] | None = None,
        max_detections: int | None = None,
        batch_size: int = 1,
        slicing: Slicing | None = None,
    ):
        """
        Args:
            weights: a .pth or .safetensors file, vfnet://NAME, mmdet://PATH_OR_URL, or a .onnx or
                .xml file that `tools/export.py` wrote. None: the config's MODEL.WEIGHTS.
            config: a yaml file, or a config (a copy is used). None: `config.yaml` beside the file,
                or the published config of vfnet://NAME. An exported file brings what it needs.
            overrides: KEY VALUE pairs for the config.
            confidence_threshold: the lowest score of a detection, 0 to 1. None: the config's.
            classes: names or ids of the classes to detect. None: all.
            max_detections: the most detections of a picture, best first. None: the config's.
            batch_size: the most pictures that the model is given at once. Only pictures that are
                padded to the same size share a batch, so that each gives what it gives alone, but
                for rounding: Detectron2 pads a batch to its largest picture, and group norms see
                the padding.
            slicing: looks at slices of the pictures, `batch_size` at once. None: as the config's
                TEST.SLICE says, by default not.

        Raises:
            UserError: a value that cannot be; the config or the weights are missing, do not load
                or do not fit each other.
        """
        _check_numbers(confidence_threshold, max_detections, batch_size)
        self.batch_size = batch_size
        self.times_full = 0
        if weights is not None and is_exported(weights):
            if config is not None or overrides:
                raise UserError(f"{weights} brings its own settings: leave the config out")
            self._open_exported(os.fspath(weights), confidence_threshold, max_detections)
        else:
            cfg = load_config_for(weights, config, overrides)
            self._build(cfg, confidence_threshold, max_detections)
        class_ids = None if classes is None else find_classes(classes, self.class_names)
        self._selection = Selection(confidence_threshold, class_ids, max_detections)
        self._use_slices(self._slicing if slicing is None else slicing)

    def _build(
        self, cfg: CfgNode, confidence_threshold: float | None, max_detections: int | None
    ) -> None:
        if confidence_threshold is not None:
            detector_node(cfg).SCORE_THRESH_TEST = confidence_threshold
        # Below 0: all. With fewer the model's own number stays, for classes that are chosen later.
        if max_detections is not None and cfg.TEST.DETECTIONS_PER_IMAGE >= 0:
            most = max(max_detections, cfg.TEST.DETECTIONS_PER_IMAGE)
            cfg.TEST.DETECTIONS_PER_IMAGE = most
        self.class_names, self._config = class_names(cfg), cfg
        self._slicing, self._nms_threshold = slicing_of(cfg), detector_node(cfg).NMS_THRESH_TEST
        self.most_detections = max(cfg.TEST.DETECTIONS_PER_IMAGE, 0) or None
        predictor = build_predictor(cfg)
        self._model: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] = predictor.model
        self._resize, self._input_format = predictor.aug, predictor.input_format
        self._weights = cfg.MODEL.WEIGHTS
        self._config_hash = hashlib.sha256(cfg.dump().encode("utf-8")).hexdigest()

    def _open_exported(
        self, file: str, confidence_threshold: float | None, max_detections: int | None
    ) -> None:
        self._model = exported = load_exported(file)
        exported.check_detects()
        self.class_names, self._config = list(exported.description.class_names), None
        # Its json has the hashes of all files that belong to it.
        self._weights, self._config_hash = file, sha256(str(description_path(Path(file))))
        lowest, most = exported.description.score_threshold, exported.description.max_detections
        if (
            lowest is not None
            and confidence_threshold is not None
            and confidence_threshold < lowest
        ):
            print(f"{file} was exported with scores from {lowest} on: it gives no lower ones")
        if most is not None and max_detections is not None and max_detections > most:
            print(f"{file} was exported with {most} detections a picture: it gives no more")
        self._slicing, self._nms_threshold = None, exported.description.iou_threshold
        self.most_detections = most
        self._resize, self._input_format = exported.resize, exported.description.input_format

    def with_slicing(self, slicing: Slicing | None) -> Predictor:
        """Return a predictor with the same model that looks at slices; None: at whole pictures."""
        other = copy.copy(self)
        other._use_slices(slicing)
        return other

    def _use_slices(self, slicing: Slicing | None) -> None:
        self._slicing = None if slicing is None else slicing.with_threshold(self._nms_threshold)
        self._sliced: SlicedDetector | None = None
        if self._slicing is not None:
            most = self._selection.max_detections or self.most_detections
            self._sliced = SlicedDetector(self._predict_whole, self._slicing, self.batch_size, most)

    def __call__(
        self, pictures: PictureInput | Sequence[PictureInput]
    ) -> dict[str, Instances] | list[dict[str, Instances]]:
        """Detect objects in a picture, or in each of a list or tuple of pictures of any sizes.

        Args:
            pictures: a path, pixels (H, W, 3) of uint8 in BGR order, or a PIL image.

        Returns:
            for a picture {"instances": Instances}, as Detectron2's models give it: `pred_boxes`,
            `scores`, `pred_classes`, best first, on the CPU, in pixels of the picture as it is
            shown (turned upright); for a list a list of them.

        Raises:
            UserError: what is no picture: see `load_picture`.
        """
        if isinstance(pictures, (list, tuple)):
            return self.predict(load_picture(picture) for picture in pictures)
        return self.predict([load_picture(pictures)])[0]

    def stream(
        self, sources: PictureInput | Iterable[PictureInput], skip: Skip | None = None
    ) -> Iterator[tuple[str, dict[str, Instances]]]:
        """Detect objects in many pictures; the next ones are read while the model computes.

        Args:
            sources: pictures as above, folders of pictures, patterns, and videos: one or many,
                which may come without end.
            skip: called with the name and the error of what cannot be read, which is left out.
                None: its error is raised.

        Yields:
            the name (see `Picture`) and the dict of each picture and each frame, in their order.

        Raises:
            UserError: a source is not there or, without `skip`, cannot be read.
        """
        read = read_pictures(expand_sources(sources), skip)
        pictures = read_ahead(read, self.pictures_ahead)
        while some := list(islice(pictures, self.pictures_ahead)):
            results = self.predict(picture.image for picture in some)
            yield from zip((picture.name for picture in some), results)

    @property
    def pictures_ahead(self) -> int:
        """How many pictures `stream` looks at together, for batches of one size among them."""
        if self.batch_size == 1 or self._sliced is not None:
            return 1
        return self.batch_size * _BATCHES_AHEAD

    @cached_property
    def category_ids(self) -> list[int] | None:
        """The ids of the classes in the data set, where the config or its json knows them.

        The json, which may be large, is read when they are first asked for.
        """
        return None if self._config is None else category_ids(self._config)

    @property
    def settings(self) -> dict[str, Any]:
        """What the results depend on, as json can hold it."""
        file = self._weights
        return {
            "weights": file,
            "sha256 of the weights": sha256(file) if os.path.isfile(file) else None,
            "sha256 of the config": self._config_hash,
            "class names": [as_utf8(name) for name in self.class_names],
            **self._selection._asdict(),
            "slices": self._slicing and dataclasses.asdict(self._slicing),
        }

    def predict(self, images: Iterable[np.ndarray]) -> list[dict[str, Instances]]:
        """Detect objects in images (H, W, 3) uint8, BGR, as they come; results in their order."""
        if self._sliced is not None:
            results = [self._sliced(image) for image in images]
            self.times_full += sum(len(r["instances"]) == self.most_detections for r in results)
            return results
        return self._predict_whole(images)

    @torch.no_grad()
    def _predict_whole(self, images: Iterable[np.ndarray]) -> list[dict[str, Instances]]:
        results: dict[int, dict[str, Instances]] = {}
        waiting: dict[tuple[int, int], list[tuple[int, dict[str, Any]]]] = defaultdict(list)
        for number, image in enumerate(images):
            item = self.model_input(image)
            batch = waiting[padded_size(item["image"].shape[-2:], size_divisibility(self._model))]
            batch.append((number, item))
            if len(batch) == self.batch_size:
                results.update(self._predict_batch(batch))
                batch.clear()
        for batch in waiting.values():
            results.update(self._predict_batch(batch))
        return [results[number] for number in range(len(results))]

    @property
    def model(self) -> Any:
        """The detector, or its exported file; called as Detectron2 calls its models."""
        return self._model

    def model_input(self, image: np.ndarray) -> dict[str, Any]:
        """Return what the model is given for an image (H, W, 3) uint8, BGR."""
        rgb = self._input_format == "RGB"
        return model_input(image[:, :, ::-1] if rgb else image, self._resize)

    def _predict_batch(
        self, batch: Sequence[tuple[int, dict[str, Any]]]
    ) -> Iterator[tuple[int, dict[str, Instances]]]:
        outputs = self._model([item for _, item in batch]) if batch else []
        for (number, _), output in zip(batch, outputs):
            self.times_full += len(output["instances"]) == self.most_detections
            yield number, {"instances": self._selection.of(output["instances"].to("cpu"))}


def size_divisibility(model: object) -> int:
    """Return what a detector pads the edges of its images to a multiple of; 1 where it is unknown.

    A detector with test-time augmentation takes its images one by one, whatever their sizes.
    """
    owner = getattr(model, "backbone", model)
    return int(getattr(owner, "size_divisibility", 1))


def _check_numbers(
    confidence_threshold: float | None, max_detections: int | None, batch_size: int
) -> None:
    if confidence_threshold is not None and not 0.0 <= confidence_threshold <= 1.0:
        raise UserError(f"expected a confidence threshold from 0 to 1, got {confidence_threshold}")
    for name, value in {"max_detections": max_detections, "batch_size": batch_size}.items():
        if value is not None and value < 1:
            raise UserError(f"expected {name} of at least 1, got {value}")
