"""The schedule of stochastic weight averaging: equal cosine cycles."""

import torch
from detectron2.config import CfgNode
from detectron2.solver import LRMultiplier
from detectron2.solver import build_lr_scheduler as build_detectron2_lr_scheduler
from fvcore.common.param_scheduler import CompositeParamScheduler, CosineParamScheduler
from torch.optim.lr_scheduler import LRScheduler

from ..errors import UserError


def cosine_cycles(max_iter: int, cycles: int, end_factor: float) -> CompositeParamScheduler:
    """Factors of the base rate, from 1 down to `end_factor` along half a cosine, cycle by cycle.

    Iteration i of a cycle of N has end_factor + (1 - end_factor) (1 + cos(pi i / N)) / 2
    (https://arxiv.org/abs/2012.12645): the first is 1, the last is just above end_factor.

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
            "iterations of an epoch, or SOLVER.EPOCHS to a multiple of CYCLES"
        )
    if not 0 <= end_factor <= 1:
        raise UserError(
            "SOLVER.SWA.END_LR_FACTOR is the share of SOLVER.BASE_LR that a cycle comes down "
            f"to, 0 to 1; got {end_factor}"
        )
    cycle = CosineParamScheduler(1.0, end_factor)
    schedule = CompositeParamScheduler(
        [cycle] * cycles, lengths=[1 / cycles] * cycles, interval_scaling=["rescaled"] * cycles
    )
    # How near a border counts as on it. fvcore's 1e-6 is an iteration where there are a million.
    schedule.WHERE_EPSILON = 0.5 / max_iter
    return schedule


def build_lr_scheduler(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> LRScheduler:
    """Build the cycles of SOLVER.SWA where that is enabled, else Detectron2's schedule.

    The cycles have no warm-up and no steps. Each parameter group starts from its own rate.

    Raises:
        UserError: see `cosine_cycles`.
    """
    solver = cfg.SOLVER
    if not solver.SWA.ENABLED:
        return build_detectron2_lr_scheduler(cfg, optimizer)
    factors = cosine_cycles(solver.MAX_ITER, solver.SWA.CYCLES, solver.SWA.END_LR_FACTOR)
    return LRMultiplier(optimizer, factors, solver.MAX_ITER)
