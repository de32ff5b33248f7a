"""Resizing: as Detectron2 does it or mmcv, for weights trained with it, and by two drawn bounds."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.data.detection_utils import build_augmentation

from ...errors import UserError
from .input_keys import are_integers, check_range


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
        length = _draw_length(self.short_edge_length, self.sample_style)
        if length == 0:
            return T.NoOpTransform()
        height, width = image.shape[:2]
        return cv2_resize(height, width, length, self.max_size)


class PilResizeShortestEdge(T.ResizeShortestEdge):
    """Detectron2's `ResizeShortestEdge`, which leaves each edge at least a pixel."""

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Draw a length; `image` is (H, W) or (H, W, C)."""
        transform = super().get_transform(image)
        if isinstance(transform, T.ResizeTransform):
            size = _at_least_a_pixel(transform.new_h, transform.new_w)
            transform.new_h, transform.new_w = size
        return transform


class ResizeBothEdges(T.Augmentation):
    """Draw a bound for the short edge and, independently, one for the long edge.

    The image is scaled, up or down, until one of its edges meets its bound, which is often the long
    one. Of two draws the greater is the long edge's bound, whichever edge it was drawn for. Source:
    `Resize` of mmdet 2.x with multiscale_mode "range", and `rescale_size` of mmcv, which sorts.
    """

    def __init__(
        self,
        short_edge_length: Sequence[int],
        long_edge_range: tuple[int, int],
        sample_style: str,
        resize: Callable[[int, int, int, int], T.Transform],
    ) -> None:
        """
        Args:
            short_edge_length: as for `MmcvResizeShortestEdge`.
            long_edge_range: inclusive bounds in pixels.
            sample_style: "range" or "choice", of the short edge.
            resize: `pil_resize` or `cv2_resize`.
        """
        super().__init__()
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Draw both bounds; `image` is (H, W) or (H, W, C)."""
        length = _draw_length(self.short_edge_length, self.sample_style)
        other = _draw_length(self.long_edge_range, "range")
        if length == 0:
            return T.NoOpTransform()
        height, width = image.shape[:2]
        return self.resize(height, width, min(length, other), max(length, other))


class Cv2ResizeTransform(T.Transform):
    """Resize an image with OpenCV's bilinear interpolation; attributes as `ResizeTransform`'s."""

    def __init__(self, h: int, w: int, new_h: int, new_w: int) -> None:
        super().__init__()
        self._set_attributes(locals())

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        """Resize an (H, W) or (H, W, C) image."""
        resized = cv2.resize(
            np.ascontiguousarray(image),
            (self.new_w, self.new_h),
            interpolation=cv2.INTER_LINEAR,
        )
        # OpenCV drops a channel axis of length one.
        return resized.reshape(self.new_h, self.new_w, *image.shape[2:])

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """Scale (N, 2) points x, y, in pixels."""
        scale = np.array([self.new_w / self.w, self.new_h / self.h])
        return coords * scale


def pil_resize(height: int, width: int, short_edge_length: int, max_size: int) -> T.ResizeTransform:
    """Return Detectron2's resizing of an image of this size, all in pixels."""
    new_size = T.ResizeShortestEdge.get_output_shape(height, width, short_edge_length, max_size)
    return T.ResizeTransform(height, width, *_at_least_a_pixel(*new_size))


def cv2_resize(
    height: int, width: int, short_edge_length: int, max_size: int
) -> Cv2ResizeTransform:
    """Return mmcv's resizing of an image of this size, all in pixels."""
    new_size = mmcv_output_size(height, width, short_edge_length, max_size)
    return Cv2ResizeTransform(height, width, *new_size)


def mmcv_output_size(
    height: int, width: int, short_edge_length: int, max_size: int
) -> tuple[int, int]:
    """Return (height, width) after scaling: one factor for both, then rounded half up."""
    scale = min(max_size / max(height, width), short_edge_length / min(height, width))
    return _at_least_a_pixel(int(height * scale + 0.5), int(width * scale + 0.5))


def _at_least_a_pixel(height: int, width: int) -> tuple[int, int]:
    # A strip of 3000x4 would have no height at 320x240.
    return max(height, 1), max(width, 1)


def build_resize(cfg: CfgNode, is_train: bool) -> T.Augmentation:
    """Build the resizing that the config describes.

    Raises:
        UserError: lengths that cannot be drawn or are no pixels; another value of INPUT.RESIZE or
            of INPUT.MIN_SIZE_TRAIN_SAMPLING.
    """
    if cfg.INPUT.RESIZE not in ("pil", "cv2"):
        raise UserError(f'INPUT.RESIZE has to be "pil" or "cv2"; got {cfg.INPUT.RESIZE!r}')
    part = "TRAIN" if is_train else "TEST"
    _check_length(f"INPUT.MAX_SIZE_{part}", cfg.INPUT[f"MAX_SIZE_{part}"], least=1)
    if is_train:
        _check_train_lengths(cfg)
    else:
        _check_length("INPUT.MIN_SIZE_TEST", cfg.INPUT.MIN_SIZE_TEST, least=0)
    is_cv2 = cfg.INPUT.RESIZE == "cv2"
    resize = build_augmentation(cfg, is_train)[0]
    lengths, style = resize.short_edge_length, "range" if resize.is_range else "choice"
    if is_train and cfg.INPUT.MAX_SIZE_TRAIN_RANGE:
        function = cv2_resize if is_cv2 else pil_resize
        return ResizeBothEdges(lengths, cfg.INPUT.MAX_SIZE_TRAIN_RANGE, style, function)
    return (MmcvResizeShortestEdge if is_cv2 else PilResizeShortestEdge)(
        lengths, resize.max_size, style
    )


def _check_length(key: str, value: int, least: int) -> None:
    if not are_integers([value], least):
        raise UserError(f"{key} has to be an integer from {least} on, in pixels; got {value!r}")


def _check_train_lengths(cfg: CfgNode) -> None:
    lengths, style = cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING
    if style not in ("range", "choice"):
        raise UserError(
            f'INPUT.MIN_SIZE_TRAIN_SAMPLING has to be "range" or "choice"; got {style!r}'
        )
    if style == "range":
        check_range('INPUT.MIN_SIZE_TRAIN with MIN_SIZE_TRAIN_SAMPLING "range"', lengths)
    elif not lengths or not are_integers(lengths, least=0):
        raise UserError(
            f"INPUT.MIN_SIZE_TRAIN has to be a list of integers from 0 on; got {lengths!r}"
        )
    if cfg.INPUT.MAX_SIZE_TRAIN_RANGE:
        check_range("INPUT.MAX_SIZE_TRAIN_RANGE", cfg.INPUT.MAX_SIZE_TRAIN_RANGE)


def _draw_length(lengths: Sequence[int], style: str) -> int:
    if style == "range":
        low, high = lengths
        return np.random.randint(low, high + 1)
    return np.random.choice(lengths)
