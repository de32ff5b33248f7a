"""Checkpoint files of mmdet -> what Detectron2's checkpointer loads, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import UserError
from ..fit import count_classes
from ..tensor_file import read_checkpoint
from .names import backbone_alone, convert_state_dict, to_mmdet_state_dict


def convert_file(source: str) -> dict[str, Any]:
    """Read a checkpoint of an mmdet detector, or a backbone, as Detectron2's checkpointer loads it.

    Args:
        source: a local file, as mmdet 2.x or 3.x writes it, or a bare state dict.

    Returns:
        `model` (our names -> tensors), `__author__`, `mmdet_source`, and `class_names` where the
        file says them. The names of a backbone alone have no prefix, and `matching_heuristics` has
        Detectron2 find the one that they need: it depends on the model's neck.

    Raises:
        UserError: the file cannot be read, or holds names without a rule.
    """
    checkpoint = read_checkpoint(source)
    state_dict = checkpoint.get("state_dict", checkpoint)
    if not isinstance(state_dict, dict) or not state_dict:
        raise UserError(f"expected a state dict in {source}, found none: give an mmdet checkpoint")
    if isinstance(state_dict.get("model"), Mapping):
        raise UserError(
            f"expected a checkpoint of mmdet, found one of Detectron2 in {source}: it needs no "
            "conversion; give the file itself, without mmdet://"
        )
    try:
        model = convert_state_dict(state_dict)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
    converted: dict[str, Any] = {"model": model, "__author__": "mmdet", "mmdet_source": source}
    backbone = backbone_alone(model)
    if backbone is not None:
        converted.update(model=backbone, matching_heuristics=True)
    class_names = _class_names(checkpoint.get("meta"))
    if class_names:
        converted["class_names"] = class_names
    return converted


def convert_file_back(source: str, class_names: Sequence[str] = ()) -> dict[str, Any]:
    """Read a checkpoint of this project as mmdet loads it: the inverse of `convert_file`.

    Args:
        source: a local file: a converted one, or what a training run or torch wrote.
        class_names: instead of those that the file says.

    Returns:
        `state_dict` (mmdet's names -> tensors) and `meta`, with the class names, where known, under
        the keys of mmdet 2 and 3.

    Raises:
        UserError: the file cannot be read, is mmdet's already, holds names without a rule, or
            another number of classes.
    """
    checkpoint = read_checkpoint(source)
    if isinstance(checkpoint.get("state_dict"), Mapping):
        raise UserError(
            f"expected a checkpoint of this project, found one of mmdet in {source}: "
            "it needs no conversion to mmdet"
        )
    weights = checkpoint.get("model", checkpoint)
    if not isinstance(weights, Mapping) or not weights:
        raise UserError(
            f"expected weights by name under 'model' in {source}, found none: "
            "give a checkpoint of this project"
        )
    try:
        state_dict = to_mmdet_state_dict(weights)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
    names = tuple(class_names or checkpoint.get("class_names", ()))
    classes = count_classes({name.removeprefix("module."): weights[name] for name in weights})
    if names and classes is not None and len(names) != classes:
        raise UserError(
            f"expected the names of the {classes} classes of {source}, got {len(names)}: "
            "give those that it was trained with"
        )
    meta = {"CLASSES": names, "dataset_meta": {"classes": names}} if names else {}
    return {"state_dict": state_dict, "meta": meta}


def _class_names(meta: Any) -> list[str] | None:
    """Class names of a checkpoint's `meta`: in it (mmdet 2), or in its `dataset_meta` (mmdet 3)."""
    if not isinstance(meta, Mapping):
        return None
    dataset_meta = meta.get("dataset_meta")
    for holder in (dataset_meta, meta):
        if isinstance(holder, Mapping):
            for key in ("classes", "CLASSES"):
                names = holder.get(key)
                if isinstance(names, (list, tuple)) and all(isinstance(n, str) for n in names):
                    return list(names)
    return None
