"""Weights: mmdet's names, the `mmdet:` path, and a checkpointer that refuses what does not fit."""

from .checkpointer import VFNetCheckpointer
from .mmdet_handler import MMDetHandler, register_mmdet_handler
from .mmdet_names import convert_state_dict
from .tensor_file import read_checkpoint
from .weights_check import weights_mismatches

__all__ = [
    "MMDetHandler",
    "VFNetCheckpointer",
    "convert_state_dict",
    "read_checkpoint",
    "register_mmdet_handler",
    "weights_mismatches",
]

register_mmdet_handler()
