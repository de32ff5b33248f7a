"""Resizing as mmcv does it, for weights that were trained with it."""

from collections.abc import Sequence

import cv2
import numpy as np
from detectron2.data import transforms as T


class MmcvResizeShortestEdge(T.Augmentation):
    """Detectron2's `ResizeShortestEdge` with mmcv's rounding and OpenCV's bilinear interpolation.

    OpenCV does not smooth when it shrinks, PIL does, so the pixels differ, and where the longest
    edge binds the rounding of the other edge may differ by one pixel.
    """

    def __init__(self, short_edge_length: Sequence[int], max_size: int, sample_style: str) -> None:
        """
        Args:
            short_edge_length: lengths in pixels: the inclusive bounds for "range", the options
                for "choice". A drawn 0 leaves the image as it is.
            max_size: the most that the longest edge may become, in pixels.
            sample_style: "range" or "choice".
        """
        super().__init__()
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Draw a length; `image` is (H, W) or (H, W, C)."""
        if self.sample_style == "range":
            low, high = self.short_edge_length
            length = np.random.randint(low, high + 1)
        else:
            length = np.random.choice(self.short_edge_length)
        if length == 0:
            return T.NoOpTransform()
        height, width = image.shape[:2]
        new_height, new_width = mmcv_output_size(height, width, length, self.max_size)
        return Cv2ResizeTransform(height, width, new_height, new_width)


class Cv2ResizeTransform(T.Transform):
    """Resize an image with OpenCV's bilinear interpolation."""

    def __init__(self, height: int, width: int, new_height: int, new_width: int) -> None:
        super().__init__()
        self._set_attributes(locals())

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        """Resize an (H, W) or (H, W, C) image."""
        resized = cv2.resize(
            np.ascontiguousarray(image),
            (self.new_width, self.new_height),
            interpolation=cv2.INTER_LINEAR,
        )
        # OpenCV drops a channel axis of length one.
        return resized.reshape(self.new_height, self.new_width, *image.shape[2:])

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """Scale (N, 2) points x, y, in pixels."""
        scale = np.array([self.new_width / self.width, self.new_height / self.height])
        return coords * scale


def mmcv_output_size(
    height: int, width: int, short_edge_length: int, max_size: int
) -> tuple[int, int]:
    """Return (height, width) after scaling: one factor for both, then rounded half up."""
    scale = min(max_size / max(height, width), short_edge_length / min(height, width))
    return int(height * scale + 0.5), int(width * scale + 0.5)
