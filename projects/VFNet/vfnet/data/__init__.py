"""Data: own data in COCO's format, its checks, the training stream and the embedded shapes."""

from .coco_format import publish_class_names, register_coco_format
from .dataset_check import check_datasets
from .image_check import check_images
from .mapper import build_mapper
from .shapes import register_shapes
from .stream import build_test_loader, build_train_loader

register_shapes()

__all__ = [
    "build_mapper",
    "build_test_loader",
    "build_train_loader",
    "check_datasets",
    "check_images",
    "publish_class_names",
    "register_coco_format",
]
