"""A detector that looks at large pictures slice by slice."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.structures import Instances
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..data.picture_input import model_input
from ..data.transforms.resize import build_resize
from ..errors import UserError
from .options import Slicing, require_sahi, slicing_of

# Images (H, W, 3) of uint8 -> {"instances": Instances} of each, in its pixels, best first.
Detect = Callable[[Sequence[np.ndarray]], list[dict[str, Instances]]]


class SlicedDetector:
    """Detects in the slices of a picture, and in the whole, and merges what it finds.

    A picture that is one slice gives what the detector finds in it, as it is.
    """

    def __init__(
        self,
        detect: Detect,
        slicing: Slicing,
        batch_size: int = 1,
        max_detections: int | None = None,
    ):
        """
        Args:
            detect: the detector.
            slicing: how; it has a threshold.
            batch_size: slices that the detector is given at once.
            max_detections: the most of a picture; None: all.

        Raises:
            UserError: SAHI is not installed.
        """
        require_sahi()
        from .sahi_slices import PictureDetector, PictureModel, predict_slices

        self.detect, self.slicing, self.max_detections = detect, slicing, max_detections
        detector = PictureDetector(detect, class_names=())  # results have ids alone
        self._predict_slices = partial(
            predict_slices,
            model=PictureModel(model=detector, confidence_threshold=0.0),
            slicing=slicing,
            batch_size=batch_size,
        )

    def __call__(self, image: np.ndarray) -> dict[str, Instances]:
        """Detect objects in an image (H, W, 3) uint8, BGR."""
        if max(image.shape[:2]) <= self.slicing.size:
            return self.detect([image])[0]
        return {"instances": self._predict_slices(image)[: self.max_detections]}


class DetectorWithSlices(nn.Module):
    """Looks at each image slice by slice; called as the detector itself.

    The order of channels does not matter here: it is that of the images, as the detector wants it.
    """

    def __init__(
        self,
        model: nn.Module,
        resize: T.Augmentation,
        slicing: Slicing,
        batch_size: int = 1,
        max_detections: int | None = None,
    ):
        """
        Args:
            model: a Detectron2 detector, possibly wrapped for several processes.
            resize: what is done to a picture before; each slice is such a picture.
            slicing, batch_size, max_detections: as in `SlicedDetector`.
        """
        super().__init__()
        self.model = model.module if isinstance(model, DistributedDataParallel) else model
        self.resize, self.slicing = resize, slicing
        self._sliced = SlicedDetector(self._detect, slicing, batch_size, max_detections)
        # Whoever restores this module's mode later restores the model's.
        self.train(model.training)

    @classmethod
    def from_config(cls, cfg: CfgNode, model: nn.Module) -> "DetectorWithSlices":
        """As TEST.SLICE says; its SIZE is not 0."""
        slicing = slicing_of(cfg)
        if slicing is None:
            raise UserError("expected the size of slices in TEST.SLICE.SIZE, got 0")
        max_detections = cfg.TEST.DETECTIONS_PER_IMAGE
        return cls(
            model,
            build_resize(cfg, is_train=False),
            slicing,
            cfg.TEST.SLICE.BATCH_SIZE,
            max_detections if max_detections >= 0 else None,
        )

    def forward(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Instances]]:
        """Detect objects.

        Args:
            batched_inputs: as the model takes them, but for "image", (3, H, W) uint8, which is as
                it was read, not resized.

        Returns:
            for each image {"instances": Instances}, in its pixels, best first.
        """
        return [self._sliced(item["image"].permute(1, 2, 0).numpy()) for item in batched_inputs]

    @torch.no_grad()
    def _detect(self, images: Sequence[np.ndarray]) -> list[dict[str, Instances]]:
        """Detect objects in images (H, W, 3) uint8, all of one size."""
        return self.model([model_input(image, self.resize) for image in images])
