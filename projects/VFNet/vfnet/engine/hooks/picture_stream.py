"""Which pictures a continued run goes on with."""

import logging
from typing import Any

from detectron2.engine import HookBase
from detectron2.utils import comm

logger = logging.getLogger(__name__)


class PictureStream(HookBase):
    """Warns where a continued run takes its pictures from another stream than before."""

    def __init__(self, images_per_batch: int) -> None:
        self._now = {
            "SOLVER.IMS_PER_BATCH": images_per_batch,
            "the number of processes": comm.get_world_size(),
        }

    def state_dict(self) -> dict[str, Any]:
        return self._now

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        changes = [
            f"{name} was {state_dict[name]} and is {value}"
            for name, value in self._now.items()
            if state_dict.get(name, value) != value
        ]
        if changes:
            logger.warning(
                f"{' and '.join(changes)}: from iteration {self.trainer.iter + 1} on the pictures "
                "are those that such a run takes from there on, not the rest of what the "
                "checkpoint's run would have taken; the rate stays"
            )
