"""Do weights fit a model? Pure functions of names and shapes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from copy import copy
from typing import Any

from ..utils.text import listed

# What a detector has beside its backbone.
_HEADS = ("head.", "proposal_generator.", "roi_heads.")
# The layers that depend on the number of classes: of locations, of RetinaNet's anchors (the classes
# of each), and of regions (R-CNN), whose boxes are a class's own.
_CLASS_LAYERS = (
    ("head.cls_pred",),
    ("head.cls_score",),
    ("roi_heads.box_predictor.cls_score", "roi_heads.box_predictor.bbox_pred"),
)

# The branch of a deformable convolution that a backbone trained on ImageNet does not have.
_OFFSET_BRANCH = re.compile(r"\.(offset|conv2_offset)\.")


def is_optional(name: str) -> bool:
    """Whether a checkpoint may hold or lack this name.

    Frozen batch norms and mmdet's converted ones have no counter; the pixel statistics come from
    the config; anchors are not stored any more; the states of Libra R-CNN's sampler and of a moving
    normaliser are a run's.
    """
    last = name.rsplit(".", 1)[-1]
    return (
        last in ("num_batches_tracked", "pixel_mean", "pixel_std", "floor_at_zero")
        or name == "normaliser.average"
        or "anchor_generator.cell_anchors" in name
    )


def has_head(weights: Mapping[str, Any]) -> bool:
    """Whether the names are a detector's; without, they are those of a backbone."""
    return any(name.startswith(_HEADS) for name in weights)


def class_layer(weights: Mapping[str, Any]) -> list[str]:
    """The names of the parameters whose first dimension depends on the number of classes."""
    layers = next((layers for layers in _CLASS_LAYERS if f"{layers[0]}.bias" in weights), ())
    return [f"{layer}.{part}" for layer in layers for part in ("weight", "bias")]


def count_classes(weights: Mapping[str, Any]) -> int | None:
    """The number of classes of a detector, by its class layer; None where it has none."""

    def channels(layer: str) -> int:
        return weights[f"{layer}.bias"].shape[0]

    layer = next((layers[0] for layers in _CLASS_LAYERS if f"{layers[0]}.bias" in weights), None)
    if layer == "head.cls_score":  # a score for each class of each anchor, which has four deltas
        return 4 * channels(layer) // channels("head.bbox_pred")
    if layer == "roi_heads.box_predictor.cls_score":  # the last one is background
        return channels(layer) - 1
    return channels(layer) if layer else None


def backbone_prefix(weights: Mapping[str, Any], current: Mapping[str, Any]) -> str:
    """What has to stand before the names of a backbone, so that most of them are the model's.

    Args:
        weights: names of a backbone alone, such as "res2.0.conv1.weight".
        current: names of the model.

    Returns:
        such as "backbone.bottom_up."; "" if none of the names ends a name of the model.
    """
    counts: Counter[str] = Counter()
    for name in current:
        parts = name.split(".")
        for start in range(len(parts)):
            if ".".join(parts[start:]) in weights:
                counts["".join(f"{part}." for part in parts[:start])] += 1
    return counts.most_common(1)[0][0] if counts else ""


def differing_class_layer(weights: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """Names of the class layer, if it is there on both sides with another number of classes."""
    names = class_layer(current)
    if not names or not all(name in weights for name in names):
        return []
    shapes = {name: (weights[name].shape, current[name].shape) for name in names}
    # Boxes may be the same for all classes.
    differing = [name for name, (there, here) in shapes.items() if there != here]
    only_classes_differ = all(
        len(there) == len(here) and there[1:] == here[1:]
        for there, here in (shapes[name] for name in differing)
    )
    return differing if only_classes_differ and differing[:2] == names[:2] else []


def differences(
    weights: Mapping[str, Any],
    current: Mapping[str, Any],
    allowed: list[str],
    backbone: str | None = None,
) -> list[str]:
    """What keeps these weights from being the model's, as parts of a sentence.

    Args:
        weights: names -> what has a shape. Names of a head make them a whole detector's; without,
            they may leave a part of the model as it was.
        current: the model's.
        allowed: names whose shapes may differ.
        backbone: what the names of the model's backbone begin with, where the weights have to be
            the whole of it, offset branches apart.
    """
    required: list[str] = []
    if has_head(weights):
        required = list(current)
    elif backbone is not None:
        required = [n for n in current if n.startswith(backbone) and not _OFFSET_BRANCH.search(n)]
    missing = [n for n in required if n not in weights and not is_optional(n)]
    unexpected = [n for n in weights if n not in current and not is_optional(n)]
    shapes = [
        f"{name} {tuple(value.shape)} instead of {tuple(current[name].shape)}"
        for name, value in weights.items()
        if name in current
        and name not in allowed
        and not is_optional(name)
        and tuple(value.shape) != tuple(current[name].shape)
    ]
    problems = []
    if not weights:
        problems.append("It holds no weights")
    if missing:
        problems.append(f"Missing in the file: {listed(missing)}")
    if unexpected:
        problems.append(f"Not in the model: {listed(unexpected)}")
    if shapes:
        problems.append(f"Of another shape: {listed(shapes)}")
    return problems


def without_module_prefix(weights: dict[str, Any]) -> dict[str, Any]:
    """Remove what DistributedDataParallel puts before every name."""
    prefix = "module."
    if not all(name.startswith(prefix) for name in weights):
        return weights
    return {name[len(prefix) :]: value for name, value in weights.items()}


def without(weights: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Remove entries; the rest is kept as it is, with the versions of modules that torch notes."""
    if not names:
        return weights
    rest = copy(weights)
    for name in names:
        rest.pop(name)
    return rest


def class_layer_message(weights: Any, current: Any) -> str:
    there, here = count_classes(weights), count_classes(current)
    return f"class layer re-initialised ({there} -> {here} classes), all else loaded"
