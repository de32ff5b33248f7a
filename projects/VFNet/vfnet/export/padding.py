"""Pictures made to fit into an exported file's inputs."""

from collections.abc import Sequence

import numpy as np
import torch
from detectron2.data import transforms as T
from torch import Tensor

from ..data.transforms.resize import (
    Cv2ResizeTransform,
    MmcvResizeShortestEdge,
    PilResizeShortestEdge,
)
from ..errors import UserError
from .description import Description


class Letterbox(T.Augmentation):
    """Resize a picture, up or down, to the largest size of its shape that fits into one size."""

    def __init__(self, height: int, width: int, method: str) -> None:
        """`height`, `width`: in pixels. `method`: "pil" or "cv2"."""
        super().__init__()
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """`image` is (H, W) or (H, W, C)."""
        height, width = image.shape[:2]
        scale = min(self.height / height, self.width / width)
        size = [max(1, int(side * scale + 0.5)) for side in (height, width)]
        transform = Cv2ResizeTransform if self.method == "cv2" else T.ResizeTransform
        return transform(height, width, *size)


def build_resize(description: Description) -> T.Augmentation:
    """What resizes a picture as the file wants it."""
    method, shortest, longest = description.resize
    if description.size is not None:
        return Letterbox(*description.size, method)
    edges = ([shortest, shortest], longest, "range")
    return (MmcvResizeShortestEdge if method == "cv2" else PilResizeShortestEdge)(*edges)


def pad_together(
    images: Sequence[Tensor], batch: int, size: tuple[int, int] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Put images (3, H, W), 0 to 255, into one array, with 0 to the right of and below each.

    Args:
        batch: images of the array; those that are missing have one black pixel.
        size: (H, W) of the array; None: of the largest image.

    Returns:
        (N, 3, H, W) uint8, and height and width of each image, (N, 2) int64.

    Raises:
        UserError: an image is larger than `size`.
    """
    sizes = torch.ones(batch, 2, dtype=torch.int64)
    for i, image in enumerate(images):
        sizes[i] = torch.tensor(image.shape[1:])
    largest = tuple(sizes.amax(dim=0).tolist())
    height, width = size or largest
    if largest[0] > height or largest[1] > width:
        raise UserError(
            f"the file takes pictures of up to {height}x{width} pixels (height x width), got "
            f"{largest[0]}x{largest[1]}: resize them as its json says, or export with --dynamic"
        )
    array = torch.zeros(batch, 3, height, width, dtype=torch.uint8)
    for image, place in zip(images, array):
        whole = image if image.dtype == torch.uint8 else image.round().clamp(0, 255)
        place[:, : image.shape[1], : image.shape[2]] = whole
    return array.numpy(), sizes.numpy()
