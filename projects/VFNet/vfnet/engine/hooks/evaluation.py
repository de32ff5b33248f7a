"""Evaluations on the way: when they are due, and under which names their scores are stored."""

from collections.abc import Callable, Sequence

from detectron2.config import CfgNode
from detectron2.engine import hooks
from detectron2.utils.events import EventStorage


def evaluates_on_the_way(cfg: CfgNode) -> bool:
    """Whether a run has evaluations before its end."""
    return cfg.TEST.EVAL_PERIOD > 0 and bool(cfg.DATASETS.TEST)


def score_name(test_sets: Sequence[str], metric: str = "bbox/AP") -> str:
    """Return under which name a score of the first test set is stored."""
    # Detectron2 nests the results of several sets by their names.
    return f"{test_sets[0]}/{metric}" if len(set(test_sets)) > 1 else metric


def latest_score(storage: EventStorage, name: str) -> float | None:
    """Return a score if it was stored at this very iteration; None: there was none to store."""
    value, iteration = storage.latest().get(name, (None, None))
    return value if iteration == storage.iter else None


class ScoredOnce:
    """Scores of weights, computed anew only where the weights have changed.

    A run that ends early has evaluated its last weights already.
    """

    def __init__(self, score: Callable[[], dict], updates: Callable[[], int]) -> None:
        """
        Args:
            score: evaluates the weights, on all processes together.
            updates: how often they have changed.
        """
        self._score = score
        self._updates = updates
        self._scored = -1
        self._results: dict = {}

    def __call__(self) -> dict:
        updates = self._updates()
        if updates != self._scored:
            self._results, self._scored = self._score(), updates
        return self._results


class CatchUpEvaluation(hooks.EvalHook):
    """Where a run is continued from an iteration that is evaluated, evaluate before anything else.

    Its checkpoint was written before the evaluation, which takes minutes and may not have ended.
    """

    def before_train(self) -> None:
        """Evaluate the weights that the run is continued with, if their iteration is due."""
        done = self.trainer.start_iter
        if 0 < done < self.trainer.max_iter and done % self._period == 0:
            self._do_eval()


def build_evaluation(
    cfg: CfgNode, evaluate: hooks.EvalHook, updates: Callable[[], int]
) -> hooks.EvalHook:
    """Detectron2's hook; where there are evaluations on the way, one that catches up with them.

    Args:
        cfg: the config.
        evaluate: Detectron2's hook.
        updates: how often the weights have changed.
    """
    if not evaluates_on_the_way(cfg):
        return evaluate
    return CatchUpEvaluation(cfg.TEST.EVAL_PERIOD, ScoredOnce(evaluate._func, updates))
