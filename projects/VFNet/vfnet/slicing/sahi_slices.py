"""Slices and their merging with SAHI: https://github.com/obss/sahi (tried with 0.12)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from detectron2.layers import batched_nms
from detectron2.structures import Boxes, Instances
from PIL import Image

from .options import Slicing, require_sahi

require_sahi()

from sahi.models.base import DetectionModel  # noqa: E402
from sahi.postprocess.backends import (  # noqa: E402
    get_postprocess_backend,
    set_postprocess_backend,
)
from sahi.postprocess.combine import PostprocessPredictions  # noqa: E402
from sahi.predict import POSTPROCESS_NAME_TO_CLASS, get_sliced_prediction  # noqa: E402
from sahi.prediction import ObjectPrediction  # noqa: E402
from sahi.utils.compatibility import (  # noqa: E402
    fix_full_shape_list,
    fix_shift_amount_list,
)


class PictureDetector(NamedTuple):
    """What SAHI's model needs of a detector; a `vfnet.predictor.Predictor` has it too.

    predict: gives {"instances": Instances} for each of a list of images (H, W, 3) uint8, BGR.
    class_names: by their ids; a class without one is called by its id.
    """

    predict: Callable[[list[np.ndarray]], list[dict[str, Instances]]]
    class_names: Sequence[str]


class PictureModel(DetectionModel):
    """SAHI's model of a detector that is there already: its `model`, a `PictureDetector`.

    Names of classes are the detector's, unless `category_mapping` is given.
    """

    def set_model(self, model: Any, **kwargs: Any) -> None:
        """Take a detector: a `PictureDetector`, or what has the same."""
        self.model, self.pixel_limit = model, Image.MAX_IMAGE_PIXELS
        if self.category_mapping is None:
            self.category_mapping = {str(id_): name for id_, name in enumerate(model.class_names)}

    def set_device(self, device: Any = None) -> None:
        """Keep the device for `load_model`; None: the config's, or the CPU where it is absent.

        SAHI's own sets CUDA_VISIBLE_DEVICES for the whole process.
        """
        self.device = device

    @property
    def num_categories(self) -> int:
        """The number of classes."""
        return len(self.category_mapping)

    def perform_inference(self, image: np.ndarray) -> None:
        """Detect objects in an image (H, W, 3) uint8, RGB."""
        self.perform_batch_inference([image])

    def perform_batch_inference(self, images: list[np.ndarray]) -> None:
        """Detect objects in several such images at once."""
        # SAHI has just taken it away, and other threads read pictures meanwhile.
        Image.MAX_IMAGE_PIXELS = self.pixel_limit
        bgr = [np.ascontiguousarray(image[:, :, ::-1]) for image in images]
        self._original_predictions = self.model.predict(bgr)

    def _create_object_prediction_list_from_original_predictions(
        self, shift_amount_list: Any = None, full_shape_list: Any = None
    ) -> None:
        found = [prediction["instances"].to("cpu") for prediction in self._original_predictions]
        shifts = fix_shift_amount_list(shift_amount_list or [[0, 0]] * len(found))
        shapes = fix_full_shape_list(full_shape_list) or [list(i.image_size) for i in found]
        self._object_prediction_list_per_image = [
            [
                ObjectPrediction(
                    bbox=box,
                    category_id=id_,
                    category_name=self.category_mapping.get(str(id_), str(id_)),
                    score=score,
                    shift_amount=shift,
                    full_shape=shape,
                )
                for box, id_, score in zip(
                    instances.pred_boxes.tensor.tolist(),
                    instances.pred_classes.tolist(),
                    instances.scores.tolist(),
                )
                if score >= self.confidence_threshold
            ]
            for instances, shift, shape in zip(found, shifts, shapes)
        ]


def predict_slices(
    image: np.ndarray,
    model: PictureModel,
    slicing: Slicing,
    batch_size: int = 1,
) -> Instances:
    """Detect objects in an image with SAHI's `get_sliced_prediction`.

    Args:
        image: (H, W, 3) uint8, BGR.
        model: that detects in slices, and in the whole.
        slicing: how; it has a threshold.
        batch_size: slices that the detector is given at once.

    Returns:
        `pred_boxes`, `scores`, `pred_classes`, best first, on the CPU, in pixels of the image.
    """
    rgb = Image.fromarray(np.ascontiguousarray(image[:, :, ::-1]))
    model.pixel_limit = Image.MAX_IMAGE_PIXELS
    with _globals_kept():
        result = get_sliced_prediction(
            # Not an array, whose axes SAHI would guess.
            rgb,
            model,
            slice_height=slicing.size,
            slice_width=slicing.size,
            overlap_height_ratio=slicing.overlap,
            overlap_width_ratio=slicing.overlap,
            perform_standard_pred=slicing.full_picture,
            postprocess_type=_merge_name(slicing),
            postprocess_match_metric=slicing.metric.upper(),
            postprocess_match_threshold=slicing.threshold,
            # SAHI would take NMS by IoU wherever the model's threshold is low.
            force_postprocess_type=True,
            batch_size=batch_size,
            verbose=0,
        )
    return to_instances(result.object_prediction_list, image.shape[:2])


class DetectorNMS(PostprocessPredictions):
    """Class by class, the suppression that the detectors have themselves.

    SAHI's own compares all detections of a class with each other: of 20,000, as low thresholds give
    them, in gigabytes.
    """

    def __call__(self, predictions: list[ObjectPrediction]) -> list[ObjectPrediction]:
        """Keep what no better detection of its class overlaps."""
        boxes = torch.tensor([p.bbox.to_xyxy() for p in predictions], dtype=torch.float32)
        scores = torch.tensor([p.score.value for p in predictions], dtype=torch.float32)
        classes = torch.tensor([p.category.id for p in predictions])
        kept = batched_nms(boxes, scores, classes, self.match_threshold)
        return [predictions[index] for index in kept.tolist()]


# By name is how `get_sliced_prediction` takes it.
_DETECTOR_NMS = "VFNET_NMS"
POSTPROCESS_NAME_TO_CLASS[_DETECTOR_NMS] = DetectorNMS


def _merge_name(slicing: Slicing) -> str:
    if (slicing.merge, slicing.metric) == ("nms", "iou"):
        return _DETECTOR_NMS
    return slicing.merge.replace("_", "").upper()


def to_instances(found: Sequence[ObjectPrediction], image_size: tuple[int, int]) -> Instances:
    """SAHI's detections in an image of this (H, W) as Detectron2's, best first."""
    found = sorted(found, key=lambda prediction: -prediction.score.value)
    boxes = torch.tensor([p.bbox.to_xyxy() for p in found], dtype=torch.float32)
    return Instances(
        image_size,
        pred_boxes=Boxes(boxes.reshape(-1, 4)),
        scores=torch.tensor([p.score.value for p in found], dtype=torch.float32),
        pred_classes=torch.tensor([p.category.id for p in found], dtype=torch.int64),
    )


@contextmanager
def _globals_kept() -> Iterator[None]:
    """Undo what SAHI sets for the whole process.

    It takes away Pillow's limit of pixels. By itself it merges with what is installed, on a GPU
    even where the detector runs on another one; NumPy is everywhere, and gives the same everywhere.
    """
    limit, backend = Image.MAX_IMAGE_PIXELS, get_postprocess_backend()
    set_postprocess_backend("numpy")
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit
        set_postprocess_backend(backend)
