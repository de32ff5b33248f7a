"""How many pictures a run could not train on (DATASETS.ON_BAD_IMAGE skip), said at its end."""

import logging

from detectron2.engine import HookBase
from detectron2.utils import comm

logger = logging.getLogger(__name__)


class SkippedReport(HookBase):
    """Count, over all processes, the pictures that were left out since this run was started."""

    def after_train(self) -> None:
        """Say how many there were; only of a run that has not failed, which all processes know."""
        if self.trainer.iter < self.trainer.max_iter:
            return
        skipped = getattr(self.trainer._trainer.data_loader, "skipped", None)
        found = comm.all_gather(skipped.seen if skipped else set())
        if names := set().union(*found):
            logger.warning(
                f"pictures that could not be used since iteration {self.trainer.start_iter}, and "
                f"were replaced by others: {len(names)}"
            )
