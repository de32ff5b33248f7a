"""Averages of the weights over a run: stochastic weight averaging and an exponential one.

Both are hooks that keep an average in the trainer's checkpoint. When the run has ended,
publishing.py writes it as model_swa.pth or model_ema.pth and scores it.
"""

import logging
import os
from typing import Any

from detectron2.config import CfgNode
from detectron2.engine import HookBase
from fvcore.nn.precise_bn import get_bn_modules
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ...config import detector_key, detector_node
from ...errors import UserError
from .norm_statistics import BuildBatches, estimate_batch_norms

logger = logging.getLogger(__name__)


class WeightAverage(HookBase):
    """Keep an average of a model's weights, which a continued run goes on with.

    There is a subclass for each kind, because Detectron2 stores the states of hooks by class name.
    """

    # model_NAME.pth, and the group of its scores in metrics.json
    name: str

    def __init__(self, model: nn.Module, average: AveragedModel, period: int) -> None:
        """
        Args:
            model: what is trained, not wrapped for several processes.
            average: of it; what it held before the first update does not count.
            period: iterations between updates.
        """
        self._trained = model
        self._average = average
        self._period = period

    @property
    def count(self) -> int:
        """How many weights the average is of."""
        return int(self._average.n_averaged)

    @property
    def averaged_model(self) -> nn.Module:
        """A model with the averaged weights."""
        return self._average.module

    def describe(self) -> str:
        """Say what the average is of."""
        raise NotImplementedError

    def finish(self) -> None:
        """Do what the averaged model needs before it is used; on all processes together."""

    def after_step(self) -> None:
        """Update the average, before the checkpoint of the same iteration is written."""
        if (self.trainer.iter + 1) % self._period == 0:
            self._average.update_parameters(self._trained)

    def state_dict(self) -> dict[str, Any]:
        # Before the first update there is nothing to go on with.
        return self._average.state_dict() if self.count else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._average.load_state_dict(state_dict)


class SWA(WeightAverage):
    """The mean of the weights at the ends of cycles (https://arxiv.org/abs/2012.12645).

    Buffers are the model's own. Statistics that batch norms have gathered belong to the weights
    they were gathered with: where they are not fixed, `finish` estimates them anew.
    """

    name = "swa"

    def __init__(
        self, model: nn.Module, *, cycle: int, build_batches: BuildBatches, num_batches: int
    ) -> None:
        """
        Args:
            model: as for `WeightAverage`.
            cycle: iterations of a cycle.
            build_batches, num_batches: as for `estimate_batch_norms`; the same at each call.
        """
        super().__init__(model, AveragedModel(model), period=cycle)
        self._build_batches = build_batches
        self._num_batches = num_batches

    def describe(self) -> str:
        return f"average of {self.count} cycle ends"

    def finish(self) -> None:
        estimated = estimate_batch_norms(
            self.averaged_model, self._build_batches, self._num_batches
        )
        if estimated:
            logger.info(
                f"statistics of the average's {estimated} batch norms were estimated on "
                f"{self._num_batches} batches of training data"
            )

    def check_start(self, start_iter: int) -> None:
        """Refuse a start at an iteration that does not go with the average.

        Raises:
            UserError: some cycle ends before it are not in the average.
        """
        expected = start_iter // self._period
        if self.count != expected:
            raise UserError(
                f"the checkpoint after {start_iter} iterations averages {self.count} cycle ends, "
                f"but with cycles of {self._period} there were {expected}; continue with the "
                "SOLVER.SWA and MAX_ITER that the run began with, or start anew, without --resume "
                "and with another OUTPUT_DIR"
            )


class EMA(WeightAverage):
    """An exponential moving average of weights and buffers, updated after each iteration."""

    name = "ema"

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        """Keep a share of `decay` of the old average in the new one."""
        average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
        super().__init__(model, average, period=1)
        self._decay = decay

    def describe(self) -> str:
        return f"moving average (decay {self._decay:g})"


def check_averaging(cfg: CfgNode, model: nn.Module, weights: str, resuming: bool = False) -> None:
    """Check SOLVER.SWA and SOLVER.EMA, the cycles apart (`build_lr_scheduler`).

    Args:
        cfg: the config.
        model: built from it.
        weights: the file that the run starts from; "" for none.
        resuming: whether that is a checkpoint of this run.

    Raises:
        UserError: the first thing found wrong.
    """
    decay = cfg.SOLVER.EMA.DECAY
    if cfg.SOLVER.EMA.ENABLED and not 0 < decay < 1:
        raise UserError(f"SOLVER.EMA.DECAY has to lie between 0 and 1, got {decay}; try 0.9998")
    if not cfg.SOLVER.SWA.ENABLED:
        return
    if not weights:
        raise UserError(
            "SOLVER.SWA goes on from a trained detector, but MODEL.WEIGHTS is empty; set it to "
            "the best checkpoint of a finished run, as in MODEL.WEIGHTS output/RUN/model_best.pth"
        )
    # URLs have no folder here.
    local = os.path.isfile(weights) and os.path.isdir(cfg.OUTPUT_DIR)
    if not resuming and local and os.path.samefile(os.path.dirname(weights) or ".", cfg.OUTPUT_DIR):
        raise UserError(
            f"SOLVER.SWA would overwrite the run that it starts from: {weights} lies in OUTPUT_DIR "
            f"{cfg.OUTPUT_DIR}; set OUTPUT_DIR to a folder of its own, such as {cfg.OUTPUT_DIR}_swa"
        )
    head = getattr(model, "head", nn.Identity())
    if get_bn_modules(head.train()):
        raise UserError(
            f"SOLVER.SWA does not go with {detector_key(cfg)}.NORM {detector_node(cfg).NORM!r}: "
            "these batch norms see one level after the other, so that their statistics cannot be "
            "estimated for averaged weights; use SOLVER.EMA, or a detector with GN"
        )
    num_batches = cfg.TEST.PRECISE_BN.NUM_ITER
    if num_batches < 1:
        raise UserError(
            "TEST.PRECISE_BN.NUM_ITER is on how many batches SOLVER.SWA estimates the statistics "
            f"of batch norms: expected 1 or more, got {num_batches}"
        )


def averaging_warnings(cfg: CfgNode) -> list[str]:
    """Return a line where a moving average would hardly leave the weights it began with."""
    ema, iterations = cfg.SOLVER.EMA, cfg.SOLVER.MAX_ITER
    share = ema.DECAY**iterations if ema.ENABLED else 0.0
    if share <= 0.01:
        return []
    return [
        f"SOLVER.EMA.DECAY {ema.DECAY:g} is slow for {iterations} iterations: the weights after "
        f"the first one would still be {share:.0%} of the average; "
        f"{0.01 ** (1 / iterations):.4f} would leave 1%"
    ]


def build_averages(
    cfg: CfgNode, model: nn.Module, build_batches: BuildBatches
) -> list[WeightAverage]:
    """Build the averages that SOLVER.SWA and SOLVER.EMA ask for; both may be."""
    averages: list[WeightAverage] = []
    solver = cfg.SOLVER
    if solver.SWA.ENABLED:
        cycle, num_batches = solver.MAX_ITER // solver.SWA.CYCLES, cfg.TEST.PRECISE_BN.NUM_ITER
        averages.append(
            SWA(model, cycle=cycle, build_batches=build_batches, num_batches=num_batches)
        )
    if solver.EMA.ENABLED:
        averages.append(EMA(model, decay=solver.EMA.DECAY))
    return averages
