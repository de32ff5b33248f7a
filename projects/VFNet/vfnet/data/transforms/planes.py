"""The order in which a picture's bytes lie in memory."""

import cv2
import numpy as np


def as_planes(image: np.ndarray) -> np.ndarray:
    """The same (H, W, C) picture with its memory in the order (C, H, W), if it is uint8.

    Detectron2's mapper gives the model (C, H, W), by a transposition in NumPy; what lies in memory
    in this order already, it leaves where it is. OpenCV takes a seventh of NumPy's time, for a
    flipped picture a third (benchmarks/planes.py).
    """
    if image.dtype != np.uint8 or image.ndim != 3:
        return image
    planes = np.empty((image.shape[2], *image.shape[:2]), image.dtype)
    if image.strides[1] > 0:
        cv2.split(image, list(planes))
    else:  # flipped by a view, of which OpenCV would make a copy: flip the planes where they lie
        cv2.split(image[:, ::-1], list(planes))
        for plane in planes:
            cv2.flip(plane, 1, dst=plane)
    return planes.transpose(1, 2, 0)
