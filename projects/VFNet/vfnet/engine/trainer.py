"""The trainer: Detectron2's `DefaultTrainer` with what that lacks."""

import contextlib
import logging
import os
import sys
import weakref
from collections.abc import Iterable, Iterator
from typing import Any, Optional

import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, TrainerBase, create_ddp_model, hooks
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from torch import distributed

from ..checkpoint import VFNetCheckpointer
from ..data import build_test_loader, build_train_loader
from ..errors import UserError
from ..evaluation.evaluator import build_evaluator, drop_undefined
from ..solver import build_optimizer
from .step import StepTrainer, autocast_precision


class Trainer(DefaultTrainer):
    """Trains on CUDA and on the CPU, and continues a stopped run as if it had never stopped.

    What the run's data and model draw at random follows from its seed (SEED, or one drawn at the
    start), the iteration and the rank. The seed lies in the checkpoint with the optimizer and the
    schedule, so nothing else has to be stored for a continued run to repeat the uninterrupted one.
    """

    def __init__(self, cfg: CfgNode) -> None:
        """Build model, optimizer, schedule and hooks from a config.

        Raises:
            UserError: SOLVER.AMP or SOLVER.CLIP_GRADIENTS holds what cannot be used.
        """
        # Not DefaultTrainer's: that one wraps the model for CUDA alone, and builds the data loader
        # before the iteration to start from is known.
        TrainerBase.__init__(self)
        if not logging.getLogger("detectron2").isEnabledFor(logging.INFO):
            setup_logger()
        cfg = DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size())
        device_type = torch.device(cfg.MODEL.DEVICE).type
        amp = cfg.SOLVER.AMP
        precision = autocast_precision(amp.ENABLED, amp.PRECISION, device_type)

        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        device_ids = [comm.get_local_rank()] if device_type == "cuda" else None
        model = create_ddp_model(model, device_ids=device_ids, broadcast_buffers=False)
        self._trainer = StepTrainer(
            model,
            [],  # the data loader: see `train`
            optimizer,
            seed=cfg.SEED if cfg.SEED >= 0 else int(comm.shared_random_seed()),
            device_type=device_type,
            precision=precision,
        )
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = VFNetCheckpointer(model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self.register_hooks(self.build_hooks())

    def train(self) -> Optional[dict]:
        """Train from `start_iter` to `max_iter`; a finished run is only evaluated again."""
        if self.start_iter < self.max_iter:
            self._trainer.reset_data_loader(
                lambda: self.build_train_loader(
                    self.cfg, seed=self._trainer.seed, start_iter=self.start_iter
                )
            )
        else:
            logging.getLogger(__name__).info(
                f"{self.start_iter} iterations are done and SOLVER.MAX_ITER is {self.max_iter}: "
                "training is finished, evaluating only"
            )
        with _user_errors_off_the_terminal():
            return super().train()

    def after_train(self) -> None:
        """Run the hooks' last actions; after a failure, all but the evaluation."""
        if self.iter < self.max_iter:
            # Detectron2's hook takes a failure in the very last iteration for a finished run.
            self._hooks = [h for h in self._hooks if not isinstance(h, hooks.EvalHook)]
        super().after_train()

    @classmethod
    def test(cls, cfg: CfgNode, model: torch.nn.Module, evaluators: Any = None) -> dict:
        """Score the model; see `DefaultTrainer.test`.

        Batch norms that learn their statistics have others on every process, and the checkpoint has
        the first one's: all processes score with these. What has no value, as the AP of a class
        without ground truth, is left out.
        """
        if comm.get_world_size() > 1:
            for buffer in model.buffers():
                distributed.broadcast(buffer, src=0)
        return drop_undefined(super().test(cfg, model, evaluators))

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: torch.nn.Module) -> torch.optim.Optimizer:
        """Build the optimizer: see `vfnet.solver.build_optimizer`."""
        return build_optimizer(cfg, model)

    @classmethod
    def build_train_loader(
        cls, cfg: CfgNode, *, seed: int = 0, start_iter: int = 0
    ) -> Iterable[list]:
        """Build the loader whose first batch is the one of iteration `start_iter`."""
        return build_train_loader(cfg, seed=seed, start_iter=start_iter)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Iterable[list]:
        """Build the loader that `dataset_name` is evaluated with."""
        return build_test_loader(cfg, dataset_name)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        """Score with COCO's metrics; detections are written to OUTPUT_DIR/inference.

        With several data sets each has a folder of its own in there, because Detectron2 gives
        their files the same names. See `vfnet.evaluation.evaluator`.
        """
        folder = os.path.join(cfg.OUTPUT_DIR, "inference")
        if len(cfg.DATASETS.TEST) > 1:
            folder = os.path.join(folder, dataset_name)
        return build_evaluator(dataset_name, folder)


class _NotAUserError(logging.Filter):
    def filter(self, record: Any) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], UserError))


@contextlib.contextmanager
def _user_errors_off_the_terminal() -> Iterator[None]:
    """Keep the traceback that Detectron2's loop logs of a `UserError` out of the terminal.

    The command line prints such an error's message; the log file has the traceback.
    """
    terminal = [
        handler
        for handler in logging.getLogger("detectron2").handlers
        if getattr(handler, "stream", None) in (sys.stdout, sys.stderr)
    ]
    only_others = _NotAUserError()
    for handler in terminal:
        handler.addFilter(only_others)
    try:
        yield
    finally:
        for handler in terminal:
            handler.removeFilter(only_others)
