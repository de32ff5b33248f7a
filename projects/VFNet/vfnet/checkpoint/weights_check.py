"""Does the input of the network fit the weights that it starts from?"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from detectron2.config import CfgNode

from ..modeling.backbone.timm_backbone import pixel_statistics


class _Recipe(NamedTuple):
    """What weights were trained with: a name for it, and the values of four config keys.

    A `stride_in_1x1` of None: it plays no part.
    """

    name: str
    pixel_mean: list[float]
    pixel_std: list[float]
    input_format: str
    stride_in_1x1: bool | None


_RGB_MEAN, _RGB_STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
_BGR_MEAN, _BGR_STD = _RGB_MEAN[::-1], _RGB_STD[::-1]

# mmdet's models start from torchvision's.
_TORCHVISION = _Recipe("mmdet's and torchvision's weights", _RGB_MEAN, _RGB_STD, "RGB", False)
_MSRA = _Recipe("MSRA's weights", _BGR_MEAN, [1.0, 1.0, 1.0], "BGR", True)
_FAIR = _Recipe("FAIR's weights", _BGR_MEAN, _BGR_STD, "BGR", False)

_KNOWN = [
    (r"(mmdet|vfnet):", _TORCHVISION),
    (r"(.*/)?ImageNetPretrained/torchvision/", _TORCHVISION),
    (r"(.*/)?ImageNetPretrained/MSRA/", _MSRA),
    (r"(.*/)?ImageNetPretrained/FAIR/", _FAIR),
]

_TIMM_BUILDER = "build_vfnet_timm_fpn_backbone"


def weights_mismatches(cfg: CfgNode) -> list[str]:
    """Compare the config's input and stride placement with what its weights were trained with.

    Args:
        cfg: a config whose MODEL.WEIGHTS may be of a known kind.

    Returns:
        One sentence for each of PIXEL_MEAN, PIXEL_STD, INPUT.FORMAT and STRIDE_IN_1X1 that does
        not fit; nothing for weights of unknown origin.
    """
    recipe = _recipe(cfg)
    if recipe is None:
        return []
    pairs: list[tuple[str, Any, Any]] = [
        ("MODEL.PIXEL_MEAN", list(cfg.MODEL.PIXEL_MEAN), recipe.pixel_mean),
        ("MODEL.PIXEL_STD", list(cfg.MODEL.PIXEL_STD), recipe.pixel_std),
        ("INPUT.FORMAT", cfg.INPUT.FORMAT, recipe.input_format),
    ]
    # Basic blocks (ResNet-18 and 34) have no 1x1 convolution that a stride could be in.
    if cfg.MODEL.RESNETS.DEPTH >= 50 and recipe.stride_in_1x1 is not None:
        found = cfg.MODEL.RESNETS.STRIDE_IN_1X1
        pairs.append(("MODEL.RESNETS.STRIDE_IN_1X1", found, recipe.stride_in_1x1))
    return [
        f"{key} is {found}, but {recipe.name} ({cfg.MODEL.WEIGHTS}) were trained with {trained}: "
        "set it to that, or expect worse results"
        for key, found, trained in pairs
        if not _equal(found, trained)
    ]


def _recipe(cfg: CfgNode) -> _Recipe | None:
    model = cfg.MODEL
    if model.WEIGHTS and _TIMM_BUILDER in (model.BACKBONE.NAME, model.BFP.BACKBONE):
        statistics = pixel_statistics(model.TIMM.NAME)
        return statistics and _Recipe(
            f"timm's weights of {model.TIMM.NAME}", *statistics, "RGB", None
        )
    return next((recipe for pattern, recipe in _KNOWN if re.match(pattern, model.WEIGHTS)), None)


def _equal(found: Any, trained: Any) -> bool:
    if not isinstance(trained, list):
        return found == trained
    # Configs round these numbers differently (57.375 and 57.38).
    return len(found) == len(trained) and all(abs(a - b) < 0.01 for a, b in zip(found, trained))
