"""Data: own data in COCO's format, its checks, the training stream and the embedded shapes."""

from .boxes import describe_bad_boxes
from .coco_check import check_evaluable
from .coco_format import publish_class_names, register_coco_format, register_test_sets
from .dataset_check import check_datasets
from .image_check import check_images
from .mapper import build_mapper
from .shapes import register_shapes
from .stream import build_test_loader, build_train_loader, images_per_process

register_shapes()

__all__ = [
    "build_mapper",
    "build_test_loader",
    "build_train_loader",
    "check_datasets",
    "check_evaluable",
    "check_images",
    "describe_bad_boxes",
    "images_per_process",
    "publish_class_names",
    "register_coco_format",
    "register_test_sets",
]
