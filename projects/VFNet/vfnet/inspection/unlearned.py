"""Which boxes of a data set the detector's assignment leaves without a location to learn them."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from fvcore.transforms.transform import Transform
from torch import Tensor

from ..data.checks.boxes import corners, objects_of
from ..data.transforms.resize import cv2_resize, pil_resize
from ..errors import UserError
from ..modeling.locations import padded_size
from ..modeling.matching.targets import Size, own_sizes_of_batch
from ..modeling.meta_arch.dense import LocationDetector

Record = dict[str, Any]
# Pictures whose boxes are assigned in one go.
_BATCH = 64


class LearnedBoxes(NamedTuple):
    """What becomes of M boxes where pictures have this short edge."""

    short_edge: int  # pixels; 0: pictures as they are
    sides: np.ndarray  # (M,), square root of the area in pixels of the resized picture
    is_learned: np.ndarray  # (M,) bool, a location learns the box


def assign_boxes(cfg: CfgNode, records: Sequence[Record]) -> list[LearnedBoxes]:
    """Assign the boxes of a data set as the configured detector does in training.

    Pictures are resized to the least and to the greatest of INPUT.MIN_SIZE_TRAIN; cropping and
    flipping are left out. No weight is loaded and no picture read.

    Args:
        cfg: of a `LocationDetector`.
        records: dataset dicts with usable boxes only (`clean_boxes`).

    Raises:
        UserError: the detector is none that assigns boxes to locations.
    """
    model = _build(cfg)
    longest = max(cfg.INPUT.MAX_SIZE_TRAIN_RANGE or [cfg.INPUT.MAX_SIZE_TRAIN])
    resize = cv2_resize if cfg.INPUT.RESIZE == "cv2" else pil_resize
    results = []
    for short_edge in sorted({min(cfg.INPUT.MIN_SIZE_TRAIN), max(cfg.INPUT.MIN_SIZE_TRAIN)}):
        sides, is_learned = [], []
        for batch in _batches(records):
            sizes, boxes = zip(*(_resized(r, resize, short_edge, longest) for r in batch))
            sides.append(np.sqrt(np.concatenate([_areas(own) for own in boxes])))
            is_learned.append(_match(model, sizes, boxes))
        results.append(LearnedBoxes(short_edge, np.concatenate(sides), np.concatenate(is_learned)))
    return results


def _build(cfg: CfgNode) -> LocationDetector:
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        model = build_model(cfg)
    if not isinstance(model, LocationDetector):
        raise UserError(
            f"{cfg.MODEL.META_ARCHITECTURE} does not assign boxes to locations, as VFNet's family "
            "does"
        )
    return model


def _match(
    model: LocationDetector, sizes: Sequence[Size], boxes: Sequence[np.ndarray]
) -> np.ndarray:
    """Whether a location learns each box of some pictures -> (M,) bool."""
    divisibility = model.backbone.size_divisibility
    padded = padded_size([max(sides) for sides in zip(*sizes)], divisibility)
    feature_sizes = [(-(-padded[0] // stride), -(-padded[1] // stride)) for stride in model.strides]
    valid = own_sizes_of_batch(
        sizes, feature_sizes, model.strides, divisibility, torch.device("cpu")
    )
    image = torch.repeat_interleave(torch.tensor([len(own) for own in boxes]))
    gt_boxes: Tensor = torch.from_numpy(np.concatenate(boxes)).float()
    # The matcher alone: `LocationDetector.assign` only counts the boxes that it leaves out.
    _, gt_index = model.matcher(gt_boxes, image, valid, feature_sizes, model.strides)
    is_learned = np.zeros(len(gt_boxes), dtype=bool)
    is_learned[gt_index.numpy()] = True
    return is_learned


def _batches(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    with_objects = [record for record in records if objects_of(record)]
    for start in range(0, len(with_objects), _BATCH):
        yield with_objects[start : start + _BATCH]


def _resized(
    record: Record, resize: Callable[..., Transform], short_edge: int, longest: int
) -> tuple[Size, np.ndarray]:
    """(H, W) and the (M, 4) xyxy boxes of a record's objects, in pixels of the resized picture."""
    size = (record["height"], record["width"])
    boxes = np.array([corners(a, record["file_name"]) for a in objects_of(record)])
    if not short_edge:
        return size, boxes
    transform = resize(*size, short_edge, longest)
    return (transform.new_h, transform.new_w), transform.apply_box(boxes)


def _areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
