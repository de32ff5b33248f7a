"""INPUT.RESIZE, which weights of mmdet bring with them: they were trained with cv2's resizing."""

from __future__ import annotations

import re

import torch
from detectron2.config import CfgNode
from detectron2.utils.file_io import PathManager

from ..config import UNCHOSEN_RESIZE
from .fit import has_head

_MMDET = re.compile(r"(mmdet|vfnet):")


def resize_of_detector(
    weights: str, value: str, chosen: bool, training: bool = False
) -> tuple[str, str]:
    """Decide how to resize for a whole detector.

    Args:
        weights: MODEL.WEIGHTS.
        value: INPUT.RESIZE of the config.
        chosen: whether somebody set it, in a file or elsewhere; else it is the default.
        training: whether a training run starts from the weights, which may go over to any resizing.

    Returns:
        "cv2" for weights of mmdet that are tested or predicted with, unless another was chosen;
        else `value`. And the line that tells the user of it; "": needless.
    """
    if not _MMDET.match(weights) or (value == "cv2" and (chosen or training)):
        return value, ""
    if training or chosen:
        return value, f"INPUT.RESIZE stays {value}, but {weights} was trained with cv2"
    return "cv2", f"INPUT.RESIZE is cv2, with which {weights} was trained"


def take_resize(cfg: CfgNode) -> str:
    """Set INPUT.RESIZE of a config to predict or evaluate with; return the line to tell of it.

    Args:
        cfg: not frozen; its MODEL.WEIGHTS is a whole detector.
    """
    value, line = resize_of_detector(cfg.MODEL.WEIGHTS, cfg.INPUT.RESIZE, is_chosen(cfg))
    if value != cfg.INPUT.RESIZE:
        cfg.INPUT.RESIZE = value
    return line


def training_resize(cfg: CfgNode) -> str:
    """The line to tell of the resizing of a training run that starts from MODEL.WEIGHTS.

    Raises:
        UserError: they cannot be fetched or converted.
    """
    weights = cfg.MODEL.WEIGHTS
    _, line = resize_of_detector(weights, cfg.INPUT.RESIZE, is_chosen(cfg), training=True)
    return line if line and _is_detector(weights) else ""


def is_chosen(cfg: CfgNode) -> bool:
    """Whether a file, the command line or a program has set INPUT.RESIZE, be it to its default."""
    return cfg.INPUT.RESIZE is not UNCHOSEN_RESIZE


def _is_detector(weights: str) -> bool:
    """Whether converted weights are more than a backbone."""
    file = PathManager.get_local_path(weights)
    return has_head(torch.load(file, map_location="cpu", weights_only=True, mmap=True)["model"])
