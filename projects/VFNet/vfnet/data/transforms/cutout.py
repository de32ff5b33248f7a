"""Cutout: black rectangles over a training image (https://arxiv.org/abs/1708.04552)."""

from collections.abc import Sequence

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import transforms as T

from ...errors import UserError
from .input_keys import are_integers, check_probability, check_range


class CutoutTransform(T.Transform):
    """Paint rectangles black; where things are does not change."""

    def __init__(self, holes: np.ndarray) -> None:
        """
        Args:
            holes: (N, 4) integers, xyxy in pixels; what lies beyond the image is left out.
        """
        super().__init__()
        self._set_attributes(locals())

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        """Return a copy of an (H, W) or (H, W, C) image with the holes set to 0."""
        image = image.copy()
        for x0, y0, x1, y1 in self.holes:
            image[y0:y1, x0:x1] = 0
        return image

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """Return (N, 2) points as they are."""
        return coords

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """Return an (H, W) mask as it is: a hidden thing is still there."""
        return segmentation


class RandomCutout(T.Augmentation):
    """Draw holes: how many, and of each its top left corner, anywhere in the image, and its size.

    Source: `CutOut` of https://github.com/hyz-xmaster/VarifocalNet, which draws the corner rather
    than the centre of the paper.
    """

    def __init__(self, num_holes: tuple[int, int], sizes: Sequence[tuple[int, int]]) -> None:
        """
        Args:
            num_holes: the fewest and the most.
            sizes: the (width, height) to choose from, in pixels.
        """
        super().__init__()
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> CutoutTransform:
        """Draw the holes for an (H, W) or (H, W, C) image."""
        height, width = image.shape[:2]
        fewest, most = self.num_holes
        count = np.random.randint(fewest, most + 1)
        corners = np.random.randint((width, height), size=(count, 2))
        sizes = np.array(self.sizes)[np.random.randint(len(self.sizes), size=count)]
        ends = np.minimum(corners + sizes, (width, height))
        return CutoutTransform(np.concatenate([corners, ends], axis=1))


def build_cutout(cfg: CfgNode) -> list[T.Augmentation]:
    """Build what INPUT.CUTOUT describes: one augmentation, or none where it is not enabled.

    Raises:
        UserError: a probability, number or size that holes cannot have.
    """
    cutout = cfg.INPUT.CUTOUT
    if not cutout.ENABLED:
        return []
    check_probability("INPUT.CUTOUT.PROBABILITY", cutout.PROBABILITY)
    check_range("INPUT.CUTOUT.NUM_HOLES", cutout.NUM_HOLES, least=0)
    if not cutout.SIZES or not all(_is_size(size) for size in cutout.SIZES):
        raise UserError(
            "INPUT.CUTOUT.SIZES has to be a list of [width, height] in pixels, integers from 1 on; "
            f"got {cutout.SIZES!r}"
        )
    return [T.RandomApply(RandomCutout(cutout.NUM_HOLES, cutout.SIZES), cutout.PROBABILITY)]


def _is_size(size: Sequence[int]) -> bool:
    return isinstance(size, (list, tuple)) and len(size) == 2 and are_integers(size, least=1)
