"""A config and weights become Detectron2's predictor of single pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.engine import DefaultPredictor

from . import model_zoo
from .checkpoint import VFNetCheckpointer, take_resize
from .checkpoint.resize import is_chosen
from .config import (
    detector_key,
    detector_node,
    inference_precision,
    load_config,
    merge_overrides,
)
from .data import publish_class_names, register_test_sets
from .data.picture_input import check_pixels
from .data.transforms.resize import build_resize
from .data.transforms.views import build_resizes, without_resizing
from .errors import UserError
from .modeling.inference.test_time_augmentation import DetectorWithTTA
from .processes import choose_device
from .utils.precision import slow_precision


def load_prediction_config(config_file: str, overrides: Sequence[Any] = ()) -> CfgNode:
    """Read a config for prediction: with the classes of own data, and a device that is there.

    Where nobody sets INPUT.RESIZE, it is that of the weights.

    `DATASETS.COCO_FORMAT` is read only where the config holds no class names, so that a dumped
    `config.yaml` predicts on a machine without the data. What trains is never needed. The names of
    the classes are published (`publish_class_names`): after this call other tools know them too.

    Args:
        config_file: a yaml of this project, or the `config.yaml` that a training run wrote.
        overrides: KEY VALUE pairs.

    Returns:
        a config that is not frozen yet.

    Raises:
        UserError: the config does not load, or the files of `DATASETS.COCO_FORMAT` are not usable.
    """
    cfg = load_config(config_file, overrides)
    prepare_prediction(cfg)
    return cfg


def prepare_prediction(cfg: CfgNode) -> None:
    """Complete a config, not frozen, as `load_prediction_config` does with that of a file."""
    if not detector_node(cfg).CLASS_NAMES:
        register_test_sets(cfg)
    publish_class_names(cfg)
    device = choose_device(cfg.MODEL.DEVICE, num_gpus=1)
    if device != cfg.MODEL.DEVICE:
        print(f"MODEL.DEVICE is {cfg.MODEL.DEVICE}, but there is no GPU: running on the CPU")
        cfg.MODEL.DEVICE = device
    _say(take_resize(cfg))


def load_config_for(
    weights: str | os.PathLike | None,
    config: str | os.PathLike | CfgNode | None,
    overrides: Sequence[Any],
) -> CfgNode:
    """Return the config, not frozen, to predict with: see `Predictor`.

    Raises:
        UserError: there is none, or it does not load.
    """
    overrides = [*overrides, *_weights_override(weights)]
    if not isinstance(config, CfgNode):
        file = find_config(weights) if config is None else os.fspath(config)
        return load_prediction_config(file, overrides)
    cfg = config.clone()
    cfg.defrost()
    merge_overrides(cfg, overrides)
    prepare_prediction(cfg)
    return cfg


def _weights_override(weights: str | os.PathLike | None) -> list[str]:
    # Quoted: yacs takes what looks like a number for one.
    return [] if weights is None else ["MODEL.WEIGHTS", repr(os.fspath(weights))]


def find_config(weights: str | os.PathLike | None) -> str:
    """Return the config file that belongs to weights: the zoo's, or `config.yaml` beside them.

    Raises:
        UserError: there is none.
    """
    if weights is None:
        raise UserError("expected weights or a config, got neither")
    name = os.fspath(weights)
    if name.startswith("vfnet://"):
        return model_zoo.get_config_file(name.removeprefix("vfnet://"))
    if "://" not in name and not Path(name).is_file():
        what = "is a folder" if Path(name).is_dir() else "is not there"
        raise UserError(
            f"expected a file of weights, but {name} {what}; published ones are vfnet://NAME"
        )
    beside = Path(name).with_name("config.yaml")
    if "://" in name or not beside.is_file():
        raise UserError(
            f"expected a config for {name}"
            + ("" if "://" in name else f", or config.yaml beside it: {beside} is not there")
        )
    return str(beside)


def build_predictor(cfg: CfgNode) -> DefaultPredictor:
    """Return Detectron2's predictor with the weights of a whole detector.

    Unlike Detectron2's it takes no other arrays than (H, W, 3) uint8; it resizes as INPUT.RESIZE
    says, or where nobody set that, as the weights want; and where TEST.AUG.ENABLED is True, its
    `model` is a `DetectorWithTTA`.

    Raises:
        UserError: no weights are named, or they are not those of this whole detector; sizes of
            TEST.AUG that cannot be.
    """
    if not cfg.MODEL.WEIGHTS:
        raise UserError(
            "MODEL.WEIGHTS is empty, so there is nothing to predict with: name a checkpoint, "
            "as in --opts MODEL.WEIGHTS output/model_final.pth"
        )
    publish_class_names(cfg)
    cfg = cfg.clone()
    cfg.defrost()
    if not is_chosen(cfg):
        _say(take_resize(cfg))
    _say(slow_precision(*inference_precision(cfg), torch.device(cfg.MODEL.DEVICE).type))
    # DefaultPredictor loads with a checkpointer that only warns where names do not fit.
    without_weights = without_resizing(cfg) if cfg.TEST.AUG.ENABLED else cfg.clone()
    without_weights.defrost()
    without_weights.MODEL.WEIGHTS = ""
    predictor = _CheckedPredictor(without_weights)
    predictor.aug = build_resize(without_weights, is_train=False)
    VFNetCheckpointer(predictor.model, whole_detector=True).load(cfg.MODEL.WEIGHTS)
    if cfg.TEST.AUG.ENABLED:
        resizes = build_resizes(cfg)
        predictor.model = DetectorWithTTA(predictor.model, resizes, cfg.TEST.AUG.FLIP)
    return predictor


class _CheckedPredictor(DefaultPredictor):
    def __call__(self, original_image: np.ndarray) -> dict[str, Any]:
        return super().__call__(check_pixels(original_image))


def _say(line: str) -> None:
    if line:
        print(line)


def class_names(cfg: CfgNode) -> list[str]:
    """Return one name per class: the config's own, else those of the first test dataset.

    Raises:
        UserError: the number of names is not NUM_CLASSES.
    """
    node, key = detector_node(cfg), detector_key(cfg)
    names = list(node.CLASS_NAMES)
    if not names and cfg.DATASETS.TEST:
        names = list(MetadataCatalog.get(cfg.DATASETS.TEST[0]).get("thing_classes", []))
    if len(names) != node.NUM_CLASSES:
        raise UserError(
            f"expected {node.NUM_CLASSES} class names ({key}.NUM_CLASSES), found {len(names)} in "
            f"{key}.CLASS_NAMES and in the dataset that DATASETS.TEST names: set {key}.CLASS_NAMES"
        )
    return names


def category_ids(cfg: CfgNode) -> list[int] | None:
    """Return the id of each class in the first test dataset; None where it is not known here."""
    if not cfg.DATASETS.TEST:
        return None
    with suppress(UserError):  # its json need not be there to predict
        register_test_sets(cfg.clone())
    metadata = MetadataCatalog.get(cfg.DATASETS.TEST[0])
    to_class = metadata.get("thing_dataset_id_to_contiguous_id", {})
    ids = sorted(to_class, key=to_class.__getitem__)
    return ids if len(ids) == detector_node(cfg).NUM_CLASSES else None
