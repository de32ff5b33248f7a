"""How a run scores its detector: as it is, with test-time augmentation, on slices."""

import logging
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from torch import distributed

from ..data import build_test_loader
from ..data.transforms.views import build_resizes, without_resizing
from ..evaluation.evaluator import build_evaluator, drop_undefined
from ..modeling.inference.test_time_augmentation import DetectorWithTTA
from ..slicing import DetectorWithSlices
from .validation import add_validation_losses

logger = logging.getLogger(__name__)


class Scorer(DefaultTrainer):
    """The class methods of Detectron2's trainer that score a model; it trains none."""

    @classmethod
    def test(cls, cfg: CfgNode, model: Any, evaluators: Any = None) -> dict:
        """Score the model, a module or what is called like one; see `DefaultTrainer.test`.

        Batch norms that learn their statistics have others on every process, and the checkpoint has
        the first one's: all processes score with these. What has no value, as the AP of a class
        without ground truth, is left out. With TEST.VALIDATION_LOSS the results of a module have
        its `validation_losses`, too.
        """
        if comm.get_world_size() > 1 and isinstance(model, torch.nn.Module):
            for buffer in model.buffers():
                distributed.broadcast(buffer, src=0)
        results = super().test(cfg, model, evaluators)
        add_validation_losses(cfg, model, results)
        return drop_undefined(results)

    @classmethod
    def further_tests(cls, cfg: CfgNode, model: torch.nn.Module) -> list[Callable[[], dict]]:
        """What scores the model otherwise, beside `test`, as TEST.AUG and TEST.SLICE ask."""
        found: list[Callable[[], dict]] = []
        if cfg.TEST.AUG.ENABLED:
            found.append(partial(cls.test_with_TTA, cfg, model))
        if cfg.TEST.SLICE.SIZE:
            found.append(partial(cls.test_with_slices, cfg, model))
        return found

    @classmethod
    def test_with_TTA(cls, cfg: CfgNode, model: torch.nn.Module) -> dict:
        """Score the model with test-time augmentation (TEST.AUG).

        As in Detectron2's tools the results are named with "_TTA", and detections are written to
        OUTPUT_DIR/inference_TTA. The score thresholds and suppression are those of `test`.
        """
        augmented = DetectorWithTTA(model, build_resizes(cfg), cfg.TEST.AUG.FLIP)
        views = len(augmented.resizes) * (2 if augmented.flip else 1)
        logger.info(f"scoring with test-time augmentation: {views} views of each image")
        return cls._test_apart(cfg, augmented, "TTA")

    @classmethod
    def test_with_slices(cls, cfg: CfgNode, model: torch.nn.Module) -> dict:
        """Score the model on slices of the images (TEST.SLICE).

        Results are named with "_slices", and detections are written to OUTPUT_DIR/inference_slices.
        """
        sliced = DetectorWithSlices.from_config(cfg, model)
        logger.info(f"scoring with slices: {sliced.slicing}")
        return cls._test_apart(cfg, sliced, "slices")

    @classmethod
    def _test_apart(cls, cfg: CfgNode, model: torch.nn.Module, name: str) -> dict:
        """Score a model that takes images as they are read, with names of its own."""
        cfg = without_resizing(cfg)
        cfg.TEST.VALIDATION_LOSS = False  # that of the model itself is known
        folder = os.path.join(cfg.OUTPUT_DIR, f"inference_{name}")
        evaluators = [cls.build_evaluator(cfg, test_set, folder) for test_set in cfg.DATASETS.TEST]
        results = cls.test(cfg, model, evaluators)
        return {f"{task}_{name}": scores for task, scores in results.items()}

    # Where Detectron2's trainer looks for it.
    build_test_loader = staticmethod(build_test_loader)

    @classmethod
    def build_evaluator(
        cls, cfg: CfgNode, dataset_name: str, output_folder: str | None = None
    ) -> DatasetEvaluator:
        """Score with COCO's metrics; detections are written to OUTPUT_DIR/inference by default.

        With several data sets each has a folder of its own in there, because Detectron2 gives
        their files the same names. See `vfnet.evaluation.evaluator`.
        """
        folder = output_folder or os.path.join(cfg.OUTPUT_DIR, "inference")
        if len(cfg.DATASETS.TEST) > 1:
            folder = os.path.join(folder, dataset_name)
        return build_evaluator(dataset_name, folder, cfg.TEST.DETECTIONS_PER_IMAGE)
