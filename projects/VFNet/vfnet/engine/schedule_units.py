"""A schedule in other units: of another batch (SOLVER.REFERENCE_BATCH), in epochs (SOLVER.EPOCHS).

Both are converted to what Detectron2 counts in, iterations of IMS_PER_BATCH images, before anything
reads the schedule. The converted config has no such unit any more: what is dumped of it says what
runs, and converting it again changes nothing.
"""

import math
from itertools import pairwise
from typing import Any

from detectron2.config import CfgNode
from detectron2.utils import comm

from ..data import count_training_images, images_per_process
from ..errors import UserError
from ..utils.comm import check_on_all_processes
from ..utils.quiet import silent_logs


def check_schedule_units(cfg: CfgNode) -> None:
    """Check SOLVER.EPOCHS, SOLVER.REFERENCE_BATCH and that STEPS, in whichever unit, rise.

    Raises:
        UserError: one is negative or no number; STEPS do not rise; Detectron2's
            REFERENCE_WORLD_SIZE scales, too.
    """
    solver = cfg.SOLVER
    if not 0 <= solver.EPOCHS < math.inf:
        raise UserError(f"SOLVER.EPOCHS must be 0 (off) or above, got {solver.EPOCHS}")
    if solver.REFERENCE_BATCH < 0:
        raise UserError(
            "SOLVER.REFERENCE_BATCH is the batch that the schedule is for: it must be 0 (off) or "
            f"above, got {solver.REFERENCE_BATCH}"
        )
    if solver.REFERENCE_BATCH and solver.REFERENCE_WORLD_SIZE:
        raise UserError(
            f"SOLVER.REFERENCE_BATCH {solver.REFERENCE_BATCH} and Detectron2's "
            f"REFERENCE_WORLD_SIZE {solver.REFERENCE_WORLD_SIZE} would both scale the schedule; "
            "set one of them to 0"
        )
    _check_rise(solver)


def schedule_warnings(cfg: CfgNode) -> list[str]:
    """Return a line where SOLVER.EPOCHS ends before STEPS, which `in_iterations` leaves out then.

    To be asked before that.
    """
    solver = cfg.SOLVER
    late = [step for step in solver.STEPS if step >= solver.EPOCHS > 0]
    if not late or not _has_steps(solver):
        return []
    return [
        f"SOLVER.STEPS are epochs, as SOLVER.EPOCHS {solver.EPOCHS:g} is set: the rate does not "
        f"fall at {', '.join(f'{step:g}' for step in late)}, where the run has ended"
    ]


def in_iterations(cfg: CfgNode) -> tuple[CfgNode, list[str]]:
    """The config with its schedule for IMS_PER_BATCH and in iterations.

    To be called on all processes together, where the data sets are registered.

    Returns:
        the config itself, where there is nothing to convert, or a copy; a line for each conversion.

    Raises:
        UserError: see `check_schedule_units`, of rounded STEPS too; there is nothing to train on.
    """
    check_schedule_units(cfg)
    is_scaled = cfg.SOLVER.REFERENCE_BATCH not in (0, cfg.SOLVER.IMS_PER_BATCH)
    if not is_scaled and not cfg.SOLVER.EPOCHS:
        return cfg, []
    images_per_process(cfg)
    frozen = cfg.is_frozen()
    cfg = cfg.clone()
    cfg.defrost()
    unit = "epochs" if cfg.SOLVER.EPOCHS else f"for REFERENCE_BATCH {cfg.SOLVER.REFERENCE_BATCH}"
    lines, steps = [], f"{tuple(cfg.SOLVER.STEPS)} {unit}"
    if is_scaled:
        lines.append(_scale_to_batch(cfg))
    if cfg.SOLVER.EPOCHS:
        lines.append(_convert_epochs(cfg))
    _check_rise(cfg.SOLVER, f" iterations, to which {steps} round: leave one out")
    if frozen:
        cfg.freeze()
    return cfg, lines


def _scale_to_batch(cfg: CfgNode) -> str:
    """Rates by IMS_PER_BATCH / REFERENCE_BATCH, iterations by its inverse; epochs stay."""
    solver, reference = cfg.SOLVER, cfg.SOLVER.REFERENCE_BATCH
    batch = solver.IMS_PER_BATCH

    def fewer(iterations: int, unit: int = 1) -> int:
        scaled = unit * round(iterations * reference / (batch * unit))
        return max(scaled, unit) if iterations else 0

    solver.BASE_LR = solver.BASE_LR * batch / reference
    solver.BASE_LR_END = solver.BASE_LR_END * batch / reference
    changed: dict[str, Any] = {"BASE_LR": f"{solver.BASE_LR:g}"}
    if not solver.EPOCHS:
        # Whole cycles stay whole ones.
        cycles = solver.SWA.CYCLES if solver.SWA.ENABLED else 1
        is_whole = cycles > 0 and solver.MAX_ITER % cycles == 0
        changed["MAX_ITER"] = solver.MAX_ITER = fewer(solver.MAX_ITER, cycles if is_whole else 1)
        # None that rounds to the end, which is no step; of later ones Detectron2 warns.
        steps = map(fewer, solver.STEPS)
        changed["STEPS"] = solver.STEPS = tuple(s for s in steps if s != solver.MAX_ITER)
    for node, key in (
        (solver, "WARMUP_ITERS"),
        (cfg.TEST, "EVAL_PERIOD"),
        (solver, "CHECKPOINT_PERIOD"),
    ):
        changed[key] = node[key] = fewer(node[key])
    # What the schedule is for now.
    solver.REFERENCE_BATCH = batch
    text = ", ".join(f"{key} {value}" for key, value in changed.items())
    return f"batch {batch}: {text} (for SOLVER.REFERENCE_BATCH {reference} as configured)"


def _convert_epochs(cfg: CfgNode) -> str:
    """MAX_ITER from EPOCHS, STEPS from epochs to iterations; the other keys are iterations."""
    solver, test = cfg.SOLVER, cfg.TEST
    with silent_logs():
        counted = check_on_all_processes(lambda: count_training_images(cfg))
    images = comm.all_gather(counted)[0]
    epoch = math.ceil(images / solver.IMS_PER_BATCH)
    epochs, solver.EPOCHS = solver.EPOCHS, 0.0
    solver.MAX_ITER = max(round(epochs * epoch), 1)
    if _has_steps(solver):
        steps = (round(step * epoch) for step in solver.STEPS)
        solver.STEPS = tuple(step for step in steps if step < solver.MAX_ITER)
    return (
        f"SOLVER.EPOCHS {epochs:g}: an epoch is {epoch} iterations ({images} images), so MAX_ITER "
        f"{solver.MAX_ITER}, STEPS {solver.STEPS}; these stay iterations: WARMUP_ITERS "
        f"{solver.WARMUP_ITERS}, EVAL_PERIOD {test.EVAL_PERIOD}, CHECKPOINT_PERIOD "
        f"{solver.CHECKPOINT_PERIOD}"
    )


def _check_rise(solver: CfgNode, origin: str = "") -> None:
    """Check SOLVER.STEPS; `origin` says what they were before they were converted to iterations."""
    steps = tuple(solver.STEPS)
    if _has_steps(solver) and any(later <= step for step, later in pairwise((0, *steps))):
        raise UserError(f"SOLVER.STEPS has to rise, from above 0; got {steps}{origin}")


def _has_steps(solver: CfgNode) -> bool:
    """Whether the schedule is one that reads STEPS."""
    return not solver.SWA.ENABLED and solver.LR_SCHEDULER_NAME == "WarmupMultiStepLR"
