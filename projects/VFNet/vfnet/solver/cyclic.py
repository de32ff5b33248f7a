"""The schedule of stochastic weight averaging: equal cosine cycles."""

import math

import torch
from detectron2.config import CfgNode
from detectron2.solver import LRMultiplier
from detectron2.solver import build_lr_scheduler as build_detectron2_lr_scheduler
from fvcore.common.param_scheduler import ParamScheduler
from torch.optim.lr_scheduler import LRScheduler

from ..errors import UserError


class CyclicCosineParamScheduler(ParamScheduler):
    """Factors of the base rate, from 1 down to `end_factor` along half a cosine, cycle by cycle.

    Iteration i of a cycle of N has end_factor + (1 - end_factor) (1 + cos(pi i / N)) / 2
    (https://arxiv.org/abs/2012.12645): the first is 1, the last is just above end_factor.
    """

    def __init__(self, max_iter: int, cycles: int, end_factor: float) -> None:
        """
        Args:
            max_iter: iterations of all cycles.
            cycles: how many.
            end_factor: share of the base rate that a cycle comes down to, 0 to 1.

        Raises:
            UserError: the iterations cannot be divided into so many cycles; a factor that is none.
        """
        if cycles < 1 or max_iter < 1 or max_iter % cycles:
            raise UserError(
                "SOLVER.SWA divides the run into equal cycles, but SOLVER.MAX_ITER is "
                f"{max_iter} and SWA.CYCLES is {cycles}; set MAX_ITER to CYCLES times the "
                "iterations of an epoch"
            )
        if not 0 <= end_factor <= 1:
            raise UserError(
                "SOLVER.SWA.END_LR_FACTOR is the share of SOLVER.BASE_LR that a cycle comes down "
                f"to, 0 to 1; got {end_factor}"
            )
        self.max_iter = max_iter
        self.cycle = max_iter // cycles
        self.end_factor = end_factor

    def __call__(self, where: float) -> float:
        """Return the factor at `where`, the iteration divided by `max_iter`."""
        # Rounded: 29 / 100 * 100 is less than 29, which would be in the cycle before.
        iteration = round(where * self.max_iter) % self.cycle
        cosine = math.cos(math.pi * iteration / self.cycle)
        return self.end_factor + 0.5 * (1 - self.end_factor) * (1 + cosine)


def build_lr_scheduler(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> LRScheduler:
    """Build the cycles of SOLVER.SWA where that is enabled, else Detectron2's schedule.

    The cycles have no warm-up and no steps. Each parameter group starts from its own rate.

    Raises:
        UserError: see `CyclicCosineParamScheduler`.
    """
    solver = cfg.SOLVER
    if not solver.SWA.ENABLED:
        return build_detectron2_lr_scheduler(cfg, optimizer)
    factors = CyclicCosineParamScheduler(
        solver.MAX_ITER, solver.SWA.CYCLES, solver.SWA.END_LR_FACTOR
    )
    return LRMultiplier(optimizer, factors, solver.MAX_ITER)
