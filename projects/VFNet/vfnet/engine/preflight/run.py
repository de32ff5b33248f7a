"""What can be known to be wrong before training starts, found before anything is written."""

import os
import tempfile
from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from ...checkpoint import VFNetCheckpointer, weights_mismatches
from ...config import detector_key, detector_node, inference_precision
from ...data import (
    build_mapper,
    build_train_loader,
    check_own_data,
    loader_timeout,
    repairs_of,
)
from ...data.bad_pictures import skips_bad_pictures
from ...data.checks.coco_json import is_number
from ...errors import UserError
from ...modeling.inference.views import as_view_detector
from ...modeling.key_readers import check_key_readers
from ...slicing import require_sahi, slicing_of
from ...utils.extras import require_extra
from ...utils.folder_lock import unwritable
from ...utils.precision import autocast_type, slow_precision
from ...utils.quiet import silent_logs
from ..accumulation import accumulation_steps, accumulation_warnings
from ..hooks.averaging import averaging_warnings, check_averaging
from ..hooks.early_stop import check_early_stop, early_stop_warnings
from ..resume import last_checkpoint_tag
from ..schedule_units import check_schedule_units
from ..step import autocast_precision
from .ignored_regions import check_ignored_regions, ignored_region_warnings
from .trial import build_errors, trial_model

# The batch that the published rate of 0.01 belongs to.
_PUBLISHED_BATCH = 16
_PUBLISHED_LR = 0.01

# What TEST.EXPECTED_RESULTS can be about.
_TASKS = ("bbox", "bbox_TTA", "bbox_slices")


def datasets_of_run(cfg: CfgNode, training: bool) -> list[str]:
    """Return the names of the datasets that a run reads.

    Raises:
        UserError: there is none to train on, or for a run that does not train, to evaluate on.
    """
    key = "TRAIN" if training else "TEST"
    if not cfg.DATASETS[key]:
        what = "train" if training else "evaluate"
        raise UserError(
            f"DATASETS.{key} is empty, so there is nothing to {what} on: name a data set, as in "
            f"DATASETS.{key} \"('shapes_{'train' if training else 'val'}',)\""
        )
    return [*(cfg.DATASETS.TRAIN if training else ()), *cfg.DATASETS.TEST]


def check_run(
    cfg: CfgNode,
    dataset_names: Sequence[str],
    weights: str,
    training: bool,
    resuming: bool = False,
) -> list[str]:
    """Check everything that a run needs and that is cheap against finding out later.

    Args:
        cfg: the config.
        dataset_names: the registered datasets that the run reads.
        weights: the file that the run loads; "" for none.
        training: whether it trains, or evaluates only.
        resuming: whether `weights` is a checkpoint of this run, which has the whole detector.

    Returns:
        one line for each thing that is allowed and worth a warning.

    Raises:
        UserError: the first thing found wrong.
    """
    check_key_readers(cfg)
    _check_precision(cfg, training)
    if slicing_of(cfg):
        require_sahi()
    loader_timeout(cfg)
    if training:
        check_schedule_units(cfg)
        accumulation_steps(cfg)
        _check_writers(cfg)
        check_ignored_regions(cfg)
    _check_classes(cfg, dataset_names)
    _check_writable(cfg.OUTPUT_DIR)
    with silent_logs():
        with build_errors("INPUT (RANDOM_FLIP, FORMAT, CROP and the others)"):
            for is_train in (True, False) if training else (False,):
                build_mapper(cfg, is_train)
        _check_expected_results(cfg)
        lines = _check_own_data(cfg, dataset_names, training)
        model = trial_model(cfg, training)
        if cfg.TEST.AUG.ENABLED:
            as_view_detector(model)
        if training:
            check_averaging(cfg, model, weights, resuming)
            check_early_stop(cfg)
            lines += accumulation_warnings(model, cfg.SOLVER.ACCUM_STEPS)
        # What the cycles of SWA average has been trained before.
        whole = resuming or not training or cfg.SOLVER.SWA.ENABLED
        VFNetCheckpointer(model, whole_detector=whole).check(weights)
    if training and not resuming and os.path.isfile(last_checkpoint_tag(cfg.OUTPUT_DIR)):
        lines.append(
            f"OUTPUT_DIR {cfg.OUTPUT_DIR} holds checkpoints of an earlier run, which this one will "
            "replace where names are the same; --resume would continue it"
        )
    return lines


def config_warnings(cfg: CfgNode, training: bool) -> list[str]:
    """Return one line for each thing in the config that is allowed and probably not meant."""
    lines = list(weights_mismatches(cfg))
    batch, rate = cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR
    scaled = bool(cfg.SOLVER.REFERENCE_BATCH)
    if training and not scaled and batch != _PUBLISHED_BATCH and rate == _PUBLISHED_LR:
        lines.append(
            f"SOLVER.IMS_PER_BATCH {batch} is taken literally, and SOLVER.BASE_LR {rate} belongs "
            f"to {_PUBLISHED_BATCH} images: linear scaling gives "
            f"BASE_LR {rate * batch / _PUBLISHED_BATCH:g}; SOLVER.REFERENCE_BATCH "
            f"{_PUBLISHED_BATCH} scales it, and the schedule with it"
        )
    device_type, amp = torch.device(cfg.MODEL.DEVICE).type, cfg.SOLVER.AMP
    if training:
        lines += averaging_warnings(cfg)
        lines += early_stop_warnings(cfg)
        lines += ignored_region_warnings(cfg)
    lines.append(slow_precision(*inference_precision(cfg), device_type))
    if training and amp.ENABLED:
        lines.append(slow_precision("SOLVER.AMP.PRECISION", amp.PRECISION, device_type))
    return [line for line in lines if line]


def _check_precision(cfg: CfgNode, training: bool) -> None:
    # Of the device of the run: the model that is checked lies on another.
    device_type, amp = torch.device(cfg.MODEL.DEVICE).type, cfg.SOLVER.AMP
    autocast_type(*inference_precision(cfg), device_type)
    if training:
        autocast_precision(amp.ENABLED, amp.PRECISION, device_type)


def _check_writers(cfg: CfgNode) -> None:
    if cfg.VIS_PERIOD < 0:
        raise UserError(
            "VIS_PERIOD is after how many iterations pictures are drawn, 0 for none: expected 0 or "
            f"more, got {cfg.VIS_PERIOD}"
        )
    if cfg.WANDB.ENABLED:
        require_extra("wandb", "wandb")
        if not cfg.WANDB.PROJECT:
            raise UserError("WANDB.PROJECT is empty: name the project, as in WANDB.PROJECT vfnet")


def _check_classes(cfg: CfgNode, dataset_names: Sequence[str]) -> None:
    expected = detector_node(cfg).NUM_CLASSES
    for name in dataset_names:
        count = len(MetadataCatalog.get(name).get("thing_classes", ()))
        # Classes that never occur do no harm in training; COCO's evaluation has no id for them.
        if count > expected or (0 < count < expected and name in cfg.DATASETS.TEST):
            raise UserError(
                f"{name} has {count} classes, but {detector_key(cfg)}.NUM_CLASSES is {expected}; "
                f"set it to {count}"
            )


def _check_expected_results(cfg: CfgNode) -> None:
    expected = cfg.TEST.EXPECTED_RESULTS
    if not expected:
        return
    if not all(map(_is_expectation, expected)):
        raise UserError(
            "TEST.EXPECTED_RESULTS has to be a list of [task, metric, value, tolerance], as "
            f"[['bbox', 'AP', 38.5, 0.2]]; got {expected!r}"
        )
    names = cfg.DATASETS.TEST
    if len(names) != 1:
        raise UserError(
            "TEST.EXPECTED_RESULTS is compared with the results of one data set, but DATASETS.TEST "
            f'names {len(names)}; name one, or set TEST.EXPECTED_RESULTS "[]"'
        )
    if not any(record.get("annotations") for record in DatasetCatalog.get(names[0])):
        raise UserError(
            f"TEST.EXPECTED_RESULTS is compared with an AP, but {names[0]} has no annotations to "
            'compute one; set TEST.EXPECTED_RESULTS "[]"'
        )


def _is_expectation(item: Any) -> bool:
    return (
        isinstance(item, (list, tuple))
        and len(item) == 4
        and item[0] in _TASKS
        and isinstance(item[1], str)
        and all(map(is_number, item[2:]))
    )


def _check_writable(folder: str) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as error:
        raise unwritable(folder, error) from None


def _check_own_data(cfg: CfgNode, dataset_names: Sequence[str], training: bool) -> list[str]:
    """Check pictures and boxes of the data sets of DATASETS.COCO_FORMAT; return warnings."""
    own = [name for name, _, _ in cfg.DATASETS.COCO_FORMAT]
    loaded = {name: DatasetCatalog.get(name) for name in own if name in dataset_names}
    lines = [
        f"DATASETS.COCO_FORMAT: {name} is left out; its json file is absent, and this run does not "
        "use it"
        for name in own
        if name not in DatasetCatalog
    ]
    lines += repairs_of(loaded)
    lines += check_own_data(
        loaded,
        cfg.DATASETS.TRAIN if training else (),
        cfg.DATASETS.TEST,
        cfg.TEST.DETECTIONS_PER_IMAGE,
        cfg.DATASETS.STRICT,
        skips_bad_pictures(cfg),
    )
    if training and any(name in loaded for name in cfg.DATASETS.TRAIN):
        records = chain.from_iterable(
            loaded.get(name) or DatasetCatalog.get(name) for name in cfg.DATASETS.TRAIN
        )
        build_train_loader(cfg, seed=0, records=list(records))
    return lines
