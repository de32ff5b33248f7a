"""The config: its keys, how it is read, and what its values can be.

keys.py has every key, detector_nodes.py and backbone_keys.py among them; reading.py reads files and
the command line; values.py checks; detector.py says what a config says of its detector. What is
built from a config lies above: nothing of data, model or training is imported here.
"""

from .detector import (
    check_class_names,
    detector_key,
    detector_node,
    inference_precision,
    norms_are_fixed,
)
from .detector_nodes import DEFAULT_NUM_CLASSES, dense_node
from .keys import UNCHOSEN_RESIZE, add_vfnet_config, get_cfg, leaves
from .reading import load_config, merge_overrides
from .values import check_values

__all__ = [
    "DEFAULT_NUM_CLASSES",
    "UNCHOSEN_RESIZE",
    "add_vfnet_config",
    "check_class_names",
    "check_values",
    "dense_node",
    "detector_key",
    "detector_node",
    "get_cfg",
    "inference_precision",
    "leaves",
    "load_config",
    "merge_overrides",
    "norms_are_fixed",
]
