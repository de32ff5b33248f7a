"""From a dataset dict to what the model takes: Detectron2's mapper, its resizing by config."""

from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.data.detection_utils import SizeMismatchError

from ..errors import UserError
from .image_check import DECODE_ERRORS
from .resize import MmcvResizeShortestEdge


class CheckedDatasetMapper(DatasetMapper):
    """Detectron2's mapper; a picture that cannot be used is a UserError that names it."""

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Map a dataset dict; see `DatasetMapper`."""
        try:
            return super().__call__(dataset_dict)
        except UserError:
            raise
        except SizeMismatchError as error:
            raise UserError(str(error)) from error
        except DECODE_ERRORS as error:
            raise UserError(
                f"{dataset_dict['file_name']} cannot be decoded ({error}). Mend the file, or take "
                "the image out of the data set."
            ) from error


def build_mapper(cfg: CfgNode, is_train: bool) -> DatasetMapper:
    """Build the mapper that the config describes.

    INPUT.RESIZE "pil" gives Detectron2's own augmentations, "cv2" the same with mmcv's resizing.

    Raises:
        UserError: another value of INPUT.RESIZE.
    """
    if cfg.INPUT.RESIZE not in ("pil", "cv2"):
        raise UserError(f'INPUT.RESIZE has to be "pil" or "cv2"; got {cfg.INPUT.RESIZE!r}.')
    arguments = DatasetMapper.from_config(cfg, is_train)
    if cfg.INPUT.RESIZE == "cv2":
        arguments["augmentations"] = [_with_mmcv_resize(a) for a in arguments["augmentations"]]
    return CheckedDatasetMapper(**arguments)


def _with_mmcv_resize(augmentation: T.Augmentation) -> T.Augmentation:
    if not isinstance(augmentation, T.ResizeShortestEdge):
        return augmentation
    return MmcvResizeShortestEdge(
        augmentation.short_edge_length,
        augmentation.max_size,
        "range" if augmentation.is_range else "choice",
    )
