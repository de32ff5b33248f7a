"""Pictures as a program gives them: a path, an array or a PIL image."""

from __future__ import annotations

import os
from typing import Any, TypeAlias

import numpy as np
import torch
from detectron2.data import transforms as T
from detectron2.data.detection_utils import convert_PIL_to_numpy
from PIL import Image, ImageOps

from ..errors import UserError
from .checks.pictures import DECODE_ERRORS, check_depth, read_picture

PictureInput: TypeAlias = str | os.PathLike | np.ndarray | Image.Image


def load_picture(picture: PictureInput) -> np.ndarray:
    """Return the pixels of a picture, (H, W, 3) uint8, BGR.

    Args:
        picture: a path; pixels as `check_pixels` takes them; or a PIL image. Files and PIL images
            are turned upright as their exif data says.

    Raises:
        UserError: anything else; as `read_picture` and `check_pixels`.
    """
    if isinstance(picture, (str, os.PathLike)):
        return read_picture(os.fspath(picture))
    if isinstance(picture, Image.Image):
        check_depth(picture, "the picture")
        try:
            return convert_PIL_to_numpy(ImageOps.exif_transpose(picture), "BGR")
        except DECODE_ERRORS as error:
            raise UserError(f"expected a picture that Pillow can read: {error}") from error
    return check_pixels(picture)


def model_input(image: np.ndarray, resize: T.Augmentation) -> dict[str, Any]:
    """What Detectron2's models are given for an image (H, W, 3) uint8, in their own order.

    Returns:
        "image": (3, h, w) uint8, resized; "height", "width": H and W, those of the result.
    """
    height, width = image.shape[:2]
    resized = resize.get_transform(image).apply_image(image)
    pixels = torch.from_numpy(np.ascontiguousarray(resized.transpose(2, 0, 1)))
    return {"image": pixels, "height": height, "width": width}


def check_pixels(pixels: object) -> np.ndarray:
    """Return pixels that are (H, W, 3) uint8, in BGR order as `cv2.imread` gives them.

    Raises:
        UserError: they are not, or there are none.
    """
    expected = "expected a picture as an array (H, W, 3) of uint8 in BGR order"
    if pixels is None:
        raise UserError(
            f"{expected}, got None, which cv2.imread gives for a file that is not there or no "
            "picture: check the path"
        )
    if not isinstance(pixels, np.ndarray):
        raise UserError(f"{expected}, as a path or as a PIL image, got {type(pixels).__name__}")
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        cure = {2: ": cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR) converts a grey one"}.get(
            pixels.ndim, ": cv2.cvtColor(picture, cv2.COLOR_BGRA2BGR) takes off a fourth channel"
        )
        raise UserError(f"{expected}, got the shape {pixels.shape}{cure}")
    if pixels.dtype != np.uint8:
        raise UserError(
            f"{expected}, got {pixels.dtype}: bring it to 0..255 first, for example "
            "numpy.uint8(picture * 255) where its range is 0 to 1"
        )
    if pixels.size == 0:
        raise UserError(f"{expected}, got an empty one of the shape {pixels.shape}")
    return pixels
