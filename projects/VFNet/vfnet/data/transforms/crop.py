"""Random crops that keep something to detect."""

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import transforms as T

from ...errors import UserError
from .input_keys import are_integers, check_probability, check_range

# Pixels of the original image. What is left of a box when the crop is made smaller has to stay
# above the 1e-5 pixels, and the rounding of float32, at which Detectron2 drops it.
_LEAST_VISIBLE = 0.01


class CropWithBox(T.Augmentation):
    """Draw crops until one holds a part of a box; an image without boxes is cropped freely.

    Nothing else is asked of a crop, so that the kept ones are distributed as the drawn ones that
    hold a part of a box. The reference implementation takes another image where a crop holds none
    (`RandomCrop` of https://github.com/hyz-xmaster/VarifocalNet); a sample of this project's stream
    is bound to its record.
    """

    def __init__(self, crop: T.RandomCrop, max_tries: int = 50) -> None:
        """
        Args:
            crop: draws the crops.
            max_tries: after as many crops without a box the image stays whole.
        """
        super().__init__()
        self._init(locals())

    def get_transform(self, image: np.ndarray, boxes: np.ndarray | None) -> T.Transform:
        """Draw a crop; `image` is (H, W) or (H, W, C), `boxes` (N, 4) xyxy in pixels or None."""
        for _ in range(self.max_tries):
            transform = self.crop.get_transform(image)
            if boxes is None or len(boxes) == 0 or holds_part_of_a_box(transform, boxes):
                return transform
        return T.NoOpTransform()


def holds_part_of_a_box(crop: T.CropTransform, boxes: np.ndarray) -> bool:
    """Say whether a crop and one of the (N, 4) xyxy boxes, in pixels, overlap."""
    corner = np.array([crop.x0, crop.y0])
    size = np.array([crop.w, crop.h])
    visible = np.minimum(boxes[:, 2:], corner + size) - np.maximum(boxes[:, :2], corner)
    return bool((visible > _LEAST_VISIBLE).all(axis=1).any())


def build_crop(cfg: CfgNode) -> list[T.Augmentation]:
    """Build what INPUT.CROP describes: one augmentation, or none where it is not enabled.

    Raises:
        UserError: a type, size or probability that no crop can have.
    """
    crop = cfg.INPUT.CROP
    if not crop.ENABLED:
        return []
    check_probability("INPUT.CROP.PROBABILITY", crop.PROBABILITY)
    _check_size(crop.TYPE, crop.SIZE)
    return [T.RandomApply(CropWithBox(T.RandomCrop(crop.TYPE, crop.SIZE)), crop.PROBABILITY)]


def _check_size(crop_type: str, size: list) -> None:
    if crop_type == "absolute_range":
        check_range('INPUT.CROP.SIZE of type "absolute_range"', size)
    elif crop_type == "absolute":
        if len(size) != 2 or not are_integers(size, least=1):
            raise UserError(
                'INPUT.CROP.SIZE of type "absolute" has to be [height, width] in pixels, two '
                f"integers from 1 on; got {size!r}"
            )
    elif crop_type in ("relative", "relative_range"):
        if len(size) != 2 or not all(isinstance(s, (int, float)) and 0 < s <= 1 for s in size):
            raise UserError(
                f'INPUT.CROP.SIZE of type "{crop_type}" has to be [height, width] as shares of the '
                f"image, above 0 and at most 1; got {size!r}"
            )
    else:
        raise UserError(
            'INPUT.CROP.TYPE has to be "relative_range", "relative", "absolute_range" or '
            f'"absolute"; got {crop_type!r}'
        )
