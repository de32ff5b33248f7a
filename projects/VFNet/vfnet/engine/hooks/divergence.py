"""A warning where a detector's boxes miss what they learn, though its losses look small."""

import logging
from typing import Any

from detectron2.engine import HookBase
from detectron2.utils import comm

from ...modeling.divergence import MISSED_BELOW, MISSED_SHARE

logger = logging.getLogger(__name__)

# Iterations in a row in which nearly all positives are missed, and how many that is.
_PATIENCE = 200
_NEARLY_ALL = 0.9


class DivergenceWarning(HookBase):
    """Warn once when, for `patience` iterations in a row, nearly no positive's box overlaps.

    It reads what detectors record of a step: see `vfnet.modeling.divergence`. An iteration without
    a positive neither counts nor ends the row. The main process looks at its own images.
    """

    def __init__(self, patience: int = _PATIENCE) -> None:
        self.patience = patience
        self.in_a_row = 0

    def after_step(self) -> None:
        """Count this iteration, and warn when it is the last one of patience."""
        if not comm.is_main_process():
            return
        scalars = {
            name: value
            for name, (value, iteration) in self.trainer.storage.latest().items()
            if iteration == self.trainer.iter
        }
        for name, share in scalars.items():
            detector, _, scalar = name.rpartition("/")
            if scalar == MISSED_SHARE:
                self._count(share, self._mean_iou(detector, scalars))

    def state_dict(self) -> dict[str, Any]:
        """The iterations in a row so far; nothing in a healthy run."""
        return {"in_a_row": self.in_a_row} if self.in_a_row else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.in_a_row = state_dict["in_a_row"]

    @staticmethod
    def _mean_iou(detector: str, scalars: dict[str, float]) -> float:
        """The highest mean IoU that the detector recorded: 0 without a positive."""
        return max(x for name, x in scalars.items() if name.startswith(f"{detector}/mean_iou"))

    def _count(self, share: float, mean_iou: float) -> None:
        if share > _NEARLY_ALL:
            self.in_a_row += 1
        elif mean_iou >= (1 - _NEARLY_ALL) * MISSED_BELOW:  # else there is no positive
            self.in_a_row = 0
        if share > _NEARLY_ALL and self.in_a_row == self.patience:
            logger.warning(
                f"In {self.patience} iterations in a row more than {_NEARLY_ALL:.0%} of the "
                f"positives had boxes that miss their ground truth (IoU below {MISSED_BELOW:g}): "
                "the box head has diverged, though its losses may look small. Lower "
                "SOLVER.BASE_LR or set SOLVER.CLIP_GRADIENTS.ENABLED True, and start again from "
                "weights before that; see largest_raw_distance in metrics.json"
            )
