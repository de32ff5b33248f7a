"""Weights: mmdet's names and files, the path `mmdet:`, and a strict checkpointer."""

from .checkpointer import VFNetCheckpointer
from .mmdet.conversion import convert_file, convert_file_back
from .mmdet.handler import MMDetHandler, fetch_source, register_mmdet_handler
from .mmdet.names import convert_state_dict, to_mmdet_state_dict
from .resize import take_resize, training_resize
from .safetensors_file import write_safetensors
from .tensor_file import read_checkpoint
from .timm_weights import register_timm_handler
from .weights_check import weights_mismatches

__all__ = [
    "MMDetHandler",
    "VFNetCheckpointer",
    "convert_file",
    "convert_file_back",
    "convert_state_dict",
    "fetch_source",
    "read_checkpoint",
    "register_mmdet_handler",
    "take_resize",
    "to_mmdet_state_dict",
    "training_resize",
    "weights_mismatches",
    "write_safetensors",
]

register_mmdet_handler()
register_timm_handler()
