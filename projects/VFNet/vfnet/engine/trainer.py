"""The trainer: Detectron2's `DefaultTrainer` with what that lacks."""

import contextlib
import logging
import os
import weakref
from functools import partial

import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, HookBase, TrainerBase, create_ddp_model, hooks
from detectron2.evaluation import verify_results
from detectron2.utils import comm
from detectron2.utils.events import EventWriter
from detectron2.utils.logger import setup_logger

from ..checkpoint import VFNetCheckpointer
from ..data import build_train_loader
from ..solver import build_lr_scheduler, build_optimizer, solver_values
from ..utils.files import WriteError
from .accumulation import accumulation_steps
from .determinism import use_deterministic_algorithms
from .event_writers.writers import build_writers
from .failures import failures_in_one_line
from .hooks.averaging import SWA, WeightAverage, build_averages
from .hooks.best import BestCheckpoint, build_best_checkpoint
from .hooks.divergence import DivergenceWarning
from .hooks.early_stop import build_early_stop
from .hooks.evaluation import ScoredOnce, build_evaluation
from .hooks.picture_stream import PictureStream
from .hooks.pictures import build_test_pictures, build_training_pictures
from .hooks.progress_bar import build_progress_bar
from .hooks.publishing import PublishAverage, build_publishing
from .hooks.skipped import SkippedReport
from .resume import checkpoint_to_continue, overridden_keys
from .schedule_units import in_iterations, schedule_warnings
from .scoring import Scorer
from .step import StepTrainer, autocast_precision

logger = logging.getLogger(__name__)

# What Detectron2 calls a run's last checkpoint.
FINAL = "model_final"


class _Ended(BaseException):
    """Raised instead of a step by a run that has ended early; no failure, so no `Exception`."""


class Trainer(Scorer):
    """Trains on CUDA and on the CPU, and continues a stopped run as if it had never stopped.

    What the run's data and model draw at random follows from its seed (SEED, or one drawn at the
    start), the iteration and the rank. The seed lies in the checkpoint with the optimizer and the
    schedule, so nothing else has to be stored for a continued run to repeat the uninterrupted one.
    """

    def __init__(self, cfg: CfgNode) -> None:
        """Build model, optimizer, schedule and hooks from a config.

        Raises:
            UserError: SOLVER holds what cannot be used, such as in AMP or CLIP_GRADIENTS.
        """
        # Not DefaultTrainer's: that one wraps the model for CUDA alone, and builds the data loader
        # before the iteration to start from is known.
        TrainerBase.__init__(self)
        if not logging.getLogger("detectron2").isEnabledFor(logging.INFO):
            setup_logger()
        for line in schedule_warnings(cfg):
            logger.warning(line)
        cfg, lines = in_iterations(cfg)
        for line in lines:
            logger.info(line)
        cfg = DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size())
        if cfg.SOLVER.DETERMINISTIC:
            use_deterministic_algorithms()
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
            accum_steps=accumulation_steps(cfg),
        )
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = VFNetCheckpointer(
            model,
            cfg.OUTPUT_DIR,
            safetensors=cfg.SOLVER.SAFETENSORS,
            trainer=weakref.proxy(self),
        )
        self.start_iter = 0
        # Whether it continues from its final checkpoint.
        self._is_final = False
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self.register_hooks(self.build_hooks())

    def resume_or_load(self, resume: bool = True) -> None:
        """Continue from the newest whole checkpoint, or load MODEL.WEIGHTS where there is none.

        All processes do the same: see `checkpoint_to_continue`. There is a warning for each
        checkpoint that is passed over, and for each key that the checkpoint overrides.

        Raises:
            UserError: checkpoints are there and none is whole, or one that does not fit this run.
        """
        last = resume and checkpoint_to_continue(self.cfg.OUTPUT_DIR, required=False)
        if not last:
            self.checkpointer.load(self.cfg.MODEL.WEIGHTS, checkpointables=[])
            return
        names = [group["name"] for group in self.optimizer.param_groups]
        configured = solver_values(names, self.optimizer.param_groups)
        self.checkpointer.load(last)
        self.start_iter = self.iter + 1
        self._is_final = os.path.basename(last) == f"{FINAL}.pth"
        used = solver_values(names, self.optimizer.param_groups)
        if self.cfg.SEED >= 0:
            configured["SEED"], used["SEED"] = self.cfg.SEED, self._trainer.seed
        for line in overridden_keys(configured, used):
            logger.warning(line)

    def train(self) -> dict | None:
        """Train from `start_iter` to `max_iter`; a finished run is only evaluated again.

        Raises:
            UserError: SOLVER.SWA cannot continue from this checkpoint.
            WriteError: a file cannot be written; what had been written before is as it was.
        """
        for hook in self._hooks:
            if isinstance(hook, SWA):
                hook.check_start(self.start_iter)
        if self.start_iter < self.max_iter:
            self._trainer.reset_data_loader(
                lambda: self.build_train_loader(
                    self.cfg, seed=self._trainer.seed, start_iter=self.start_iter
                )
            )
        else:
            logger.info(
                f"{self.start_iter} iterations are done and SOLVER.MAX_ITER is {self.max_iter}: "
                "training is finished, evaluating only"
            )
        with failures_in_one_line(self, self.cfg.OUTPUT_DIR):
            if self.start_iter >= self.max_iter and not self._is_final:
                # It was killed after a numbered checkpoint of the last iteration.
                self.checkpointer.save(FINAL, iteration=self.start_iter - 1)
            try:
                return super().train()
            except _Ended:
                return self._expected_results()

    def _expected_results(self) -> dict | None:
        """What a run returns whose last iteration is done; see `DefaultTrainer.train`."""
        if not (self.cfg.TEST.EXPECTED_RESULTS and comm.is_main_process()):
            return None
        verify_results(self.cfg, self._last_eval_results)
        return self._last_eval_results

    def before_step(self) -> None:
        """Begin a step, unless a hook has lowered `max_iter` to what is done."""
        if self.iter >= self.max_iter:
            raise _Ended
        super().before_step()

    def after_train(self) -> None:
        """Run the hooks' last actions; after a failure, nothing is evaluated or averaged."""
        # Detectron2's loop counts an iteration even where it takes none.
        self.iter = min(self.iter, max(self.start_iter, self.max_iter))
        failed = self.iter < self.max_iter
        if failed:
            # Detectron2's hooks take a failure in the very last iteration for a finished run.
            only_finished = (hooks.EvalHook, BestCheckpoint, PublishAverage)
            self._hooks = [h for h in self._hooks if not isinstance(h, only_finished)]
        # Where one file could not be written, others cannot be either: the first one is reported.
        with contextlib.suppress(*[WriteError] if failed else []):
            super().after_train()

    def build_hooks(self) -> list[HookBase]:
        """Detectron2's hooks, and this project's in their places: see `vfnet.engine.hooks`."""
        cfg, model = self.cfg, self.checkpointer.model
        averages = build_averages(
            cfg, model, lambda: self.build_train_loader(cfg, seed=self._trainer.seed)
        )
        scores = {
            average: ScoredOnce(partial(self._score, average), partial(getattr, average, "count"))
            for average in averages
        }
        found = super().build_hooks()
        (place,) = [i for i, hook in enumerate(found) if isinstance(hook, hooks.EvalHook)]
        found[place : place + 1] = [
            *build_training_pictures(cfg, model),
            build_evaluation(cfg, found[place], lambda: self.scheduler.last_epoch),
            *build_best_checkpoint(cfg, self._file_apart(model)),
            *build_test_pictures(cfg, model),
            *[hooks.EvalHook(0, test) for test in self.further_tests(cfg, model)],
            *build_early_stop(cfg, scores),
            *build_publishing(cfg, scores, self._file_apart),
        ]
        return [
            *build_progress_bar(lambda: self.epoch_length),
            # Before the checkpoint, so that it has the weights of its own iteration in them.
            *averages,
            PictureStream(cfg.SOLVER.IMS_PER_BATCH),
            DivergenceWarning(),
            *found,
            SkippedReport(),
        ]

    def build_writers(self) -> list[EventWriter]:
        """What writes the storage's numbers and pictures: see `vfnet.engine.event_writers`."""
        return build_writers(
            self.cfg, self.max_iter, lambda: self.epoch_length, lambda: self.start_iter
        )

    @property
    def epoch_length(self) -> float | None:
        """Iterations in which every training picture comes once; None: it is not known."""
        num_records = getattr(self._trainer.data_loader, "num_records", None)
        return num_records / self.cfg.SOLVER.IMS_PER_BATCH if num_records else None

    def _file_apart(self, model: torch.nn.Module) -> VFNetCheckpointer:
        """Writes weights into OUTPUT_DIR, in files that --resume never continues from."""
        cfg = self.cfg
        also_safetensors = cfg.SOLVER.SAFETENSORS
        return VFNetCheckpointer(
            model, cfg.OUTPUT_DIR, safetensors=also_safetensors, tag_last=False
        )

    def _score(self, average: WeightAverage) -> dict:
        # In a folder of its own, because the detections of the raw weights are there.
        cfg = self.cfg.clone()
        cfg.defrost()
        cfg.OUTPUT_DIR = os.path.join(cfg.OUTPUT_DIR, average.name)
        return self.test(cfg, average.averaged_model)

    # Where Detectron2's trainer looks for them.
    build_optimizer = staticmethod(build_optimizer)
    build_lr_scheduler = staticmethod(build_lr_scheduler)
    build_train_loader = staticmethod(build_train_loader)
