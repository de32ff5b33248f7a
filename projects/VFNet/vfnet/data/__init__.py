"""Data: own data in COCO's format, its checks, the training stream and the embedded shapes."""

from .checks.datasets import check_datasets
from .checks.own_data import check_own_data
from .checks.pictures import check_images, read_picture
from .datasets.coco_format import (
    evaluation_file,
    publish_class_names,
    register_coco_format,
    register_test_sets,
    repairs_of,
)
from .datasets.shapes import register_shapes
from .mapper import build_mapper
from .stream import (
    build_test_loader,
    build_train_loader,
    build_validation_loader,
    count_training_images,
    images_per_process,
)

register_shapes()

__all__ = [
    "build_mapper",
    "build_test_loader",
    "build_train_loader",
    "build_validation_loader",
    "check_datasets",
    "check_images",
    "check_own_data",
    "count_training_images",
    "evaluation_file",
    "images_per_process",
    "publish_class_names",
    "read_picture",
    "register_coco_format",
    "register_test_sets",
    "repairs_of",
]
