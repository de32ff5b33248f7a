"""The best checkpoint of a run."""

import logging
import os
import uuid
from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.engine import HookBase, hooks

from ...checkpoint import VFNetCheckpointer
from ...checkpoint.continuable import read_own
from ...errors import UserError
from .evaluation import evaluates_on_the_way, latest_score, score_name

logger = logging.getLogger(__name__)


class BestCheckpoint(hooks.BestCheckpointer):
    """Keep the weights of the best AP of the first test set in `model_best.pth`.

    The file holds the weights alone, as "model", with the iterations they were trained for and
    their score; it is not what a run continues from. A continued run reads from it what it has to
    surpass: its checkpoint was written before the evaluation of the same iteration. `state_dict`
    holds which run the file has to be of.
    """

    def __init__(
        self, eval_period: int, checkpointer: VFNetCheckpointer, test_sets: Sequence[str]
    ) -> None:
        """
        Args:
            eval_period: iterations between evaluations.
            checkpointer: writes the weights of what is evaluated, and tags nothing as the last.
            test_sets: the names of the data sets that are evaluated.
        """
        super().__init__(eval_period, checkpointer, score_name(test_sets))
        self._path = os.path.join(checkpointer.save_dir, f"{self._file_prefix}.pth")
        self._run = uuid.uuid4().hex
        self._test_set = test_sets[0]

    def before_train(self) -> None:
        """Where a run is continued, find out what its best score was, and if it just rose."""
        if self.trainer.start_iter == 0:
            return
        # Only the first process writes one.
        if self._checkpointer.save_to_disk and os.path.isfile(self._path):
            try:
                self._read_best()
            except UserError as error:
                logger.warning(f"{error}: the best weights from here on will take its place")
        self._keep_if_best(self.trainer.start_iter)

    def _read_best(self) -> None:
        content = read_own(self._path)
        best, iteration = content.get("best"), content.get("iteration")
        if not isinstance(best, dict) or not isinstance(iteration, int):
            raise UserError(f"{self._path} does not say which iteration and score it is of")
        of_this_run = (best.get("run"), best.get("test_set")) == (self._run, self._test_set)
        if of_this_run and isinstance(best.get("score"), float):
            self._update_best(best["score"], iteration)

    def _best_checking(self) -> None:
        self._keep_if_best(min(self.trainer.iter + 1, self.trainer.max_iter))

    def _keep_if_best(self, iteration: int) -> None:
        """Keep the weights after so many iterations, if they were just scored and are the best."""
        score = latest_score(self.trainer.storage, self._val_metric)
        # Only the first process has scores, and data without annotations has none.
        if score is None or (self.best_metric is not None and score <= self.best_metric):
            return
        if self._update_best(score, iteration):  # False: it is not finite
            best = {"run": self._run, "test_set": self._test_set, "score": float(score)}
            self._checkpointer.save(self._file_prefix, iteration=iteration, best=best)
            logger.info(
                f"best so far after {iteration} iterations: AP {score:.2f} on {self._test_set}; "
                f"kept as {self._file_prefix}.pth"
            )

    def state_dict(self) -> dict[str, Any]:
        return {"run": self._run}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._run = state_dict["run"]


def build_best_checkpoint(cfg: CfgNode, checkpointer: VFNetCheckpointer) -> list[HookBase]:
    """The hook of a run that is evaluated on the way; see `BestCheckpoint`."""
    if not evaluates_on_the_way(cfg):
        return []
    return [BestCheckpoint(cfg.TEST.EVAL_PERIOD, checkpointer, cfg.DATASETS.TEST)]
