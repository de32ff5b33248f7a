"""From a dataset dict to what the model takes: Detectron2's mapper, augmentations by config."""

import copy
from functools import partial
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.data.detection_utils import SizeMismatchError, build_augmentation, get_bbox
from detectron2.structures import Boxes

from ..errors import UserError
from ..utils.pixel_limit import limit_pixels
from .checks.boxes import is_crowd
from .checks.pictures import DECODE_ERRORS, PictureError, open_picture
from .transforms.crop import build_crop
from .transforms.cutout import build_cutout
from .transforms.planes import as_planes
from .transforms.resize import build_resize


class CheckedDatasetMapper(DatasetMapper):
    """Detectron2's mapper, with three differences.

    A picture that cannot be used is a UserError that names it. In training, augmentations that ask
    for `boxes` get those that can become ground truth, (N, 4) xyxy in pixels: all but crowds, which
    Detectron2's mapper leaves out. And crowds can be kept, as regions in "ignored_boxes", an (I, 4)
    tensor apart from the "instances": what reads ground truth never learns one. What they do then:
    modeling/matching/ignored.py; from file to score: docs/own_data.md, Crowds.
    """

    # INPUT.MAX_PIXELS. It travels with the mapper: a loader's worker may be a new process.
    max_pixels: int | None = None
    # INPUT.KEEP_CROWD.
    keep_crowd = False

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Map a dataset dict; see `DatasetMapper`."""
        if self.max_pixels is not None:
            limit_pixels(self.max_pixels)
        mapper = self._with_boxes_of(dataset_dict)
        try:
            # Not all data sets are checked before the run.
            with open_picture(dataset_dict["file_name"]):
                return DatasetMapper.__call__(mapper, dataset_dict)
        except UserError:
            raise
        except SizeMismatchError as error:
            raise PictureError("of another size", str(error)) from error
        except DECODE_ERRORS as error:
            raise PictureError(
                "unreadable",
                f"{dataset_dict['file_name']} cannot be decoded ({error}). Fix the file, or take "
                "the image out of the data set",
            ) from error

    def _transform_annotations(
        self, dataset_dict: dict[str, Any], transforms: T.Transform, image_shape: tuple[int, int]
    ) -> None:
        if self.keep_crowd:
            crowds = [a for a in dataset_dict["annotations"] if is_crowd(a)]
            dataset_dict["ignored_boxes"] = _transformed_boxes(crowds, transforms, image_shape)
        super()._transform_annotations(dataset_dict, transforms, image_shape)

    def _with_boxes_of(self, dataset_dict: dict[str, Any]) -> "CheckedDatasetMapper":
        # Detectron2's mapper gives its augmentations the picture only.
        boxes = None
        if self.is_train and "annotations" in dataset_dict:
            boxes = boxes_of(dataset_dict["annotations"])
        mapper = copy.copy(self)
        mapper.augmentations = partial(_augment, self.augmentations, boxes)
        return mapper


def boxes_of(annotations: list[dict[str, Any]]) -> np.ndarray:
    """Return the (N, 4) xyxy boxes, in pixels, of all annotations but crowds."""
    return np.array([get_bbox(a) for a in annotations if not is_crowd(a)]).reshape(-1, 4)


def _transformed_boxes(
    annotations: list[dict[str, Any]], transforms: T.Transform, image_size: tuple[int, int]
) -> torch.Tensor:
    """What is left of boxes in a picture that was transformed to this (H, W) -> (I, 4) xyxy."""
    boxes = np.array([get_bbox(a) for a in annotations]).reshape(-1, 4)
    if len(boxes):
        boxes = transforms.apply_box(boxes)
    left = Boxes(torch.as_tensor(boxes, dtype=torch.float32))
    left.tensor = left.tensor[left.tensor.isfinite().all(dim=1)]
    left.clip(image_size)
    return left.tensor[left.nonempty()]


def build_mapper(
    cfg: CfgNode,
    is_train: bool,
    resize: T.Augmentation | None = None,
    keep_truth: bool = False,
) -> DatasetMapper:
    """Build the mapper that the config describes.

    Training images are cropped, resized, cut out and flipped, in this order; test images are
    resized. INPUT.RESIZE "pil" resizes as Detectron2 does, "cv2" as mmcv does; `resize`, as it is
    given. Test images have no ground truth unless `keep_truth`: then they have that of training.

    Raises:
        UserError: keys of INPUT that no augmentation can have.
    """
    augmentations = [resize or build_resize(cfg, is_train)]
    if is_train:
        flips = build_augmentation(cfg, is_train)[1:]
        augmentations = [*build_crop(cfg), *augmentations, *build_cutout(cfg), *flips]
    arguments = DatasetMapper.from_config(cfg, is_train)
    mapper = CheckedDatasetMapper(**{**arguments, "augmentations": augmentations})
    mapper.max_pixels = cfg.INPUT.MAX_PIXELS
    mapper.is_train = is_train or keep_truth
    mapper.keep_crowd = cfg.INPUT.KEEP_CROWD
    return mapper


def _augment(
    augmentations: T.AugmentationList, boxes: np.ndarray | None, aug_input: T.AugInput
) -> T.TransformList:
    if boxes is not None:
        aug_input.boxes = boxes
    height, width = aug_input.image.shape[:2]
    try:
        transforms = augmentations(aug_input)
    except DECODE_ERRORS as error:  # else it would pass for damage of the file
        raise UserError(
            f"what INPUT asks for cannot be done to a picture of {width}x{height} ({error}): check "
            "its sizes, INPUT.CROP and INPUT.CUTOUT"
        ) from error
    aug_input.image = as_planes(aug_input.image)
    return transforms
