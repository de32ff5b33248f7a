"""The end of a run whose score has ceased to rise (SOLVER.EARLY_STOP)."""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import HookBase
from detectron2.utils import comm

from ...data.checks.report import name_first
from ...errors import UserError
from ..validation import GROUP
from .averaging import EMA, WeightAverage
from .evaluation import CatchUpEvaluation, evaluates_on_the_way, latest_score, score_name

logger = logging.getLogger(__name__)

# The scores of boxes, those of classes apart.
_AP_NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl")


class Progress(NamedTuple):
    """After how many iterations a run was best, and how many evaluations came since."""

    best: int
    since: int


class EarlyStop(HookBase):
    """End a run, as if it were finished, where a score has not improved for some evaluations.

    It has to come after the hooks that evaluate. All processes end together, by the scores of the
    first one. The state is the score after each evaluated number of iterations, so that a continued
    run, which evaluates again what its checkpoint was written before, counts no evaluation twice.
    """

    def __init__(self, period: int, metric: str, patience: int) -> None:
        """
        Args:
            period: iterations between evaluations.
            metric: the name of the score, as stored.
            patience: evaluations without improvement after which the run ends.
        """
        self._period = period
        self._metric = metric
        self._patience = patience
        self._scores: dict[int, float | None] = {}

    def before_train(self) -> None:
        """Take note of the evaluation that a continued run begins with, and of earlier ones."""
        done = self.trainer.start_iter
        if not 0 < done < self.trainer.max_iter:
            return
        if done % self._period == 0:
            self._take_note(done)
        self._end_if_exhausted(done)

    def after_step(self) -> None:
        """Take note of an evaluation; the last one of a run, in `after_train`, ends nothing."""
        done = self.trainer.iter + 1
        if done % self._period == 0 and done != self.trainer.max_iter:
            self._take_note(done)
            if self._scores[done] is None and not self._known():
                raise UserError(self._describe_unknown())
            self._end_if_exhausted(done)

    def _take_note(self, done: int) -> None:
        # Only the first process has scores.
        self._scores[done] = comm.all_gather(latest_score(self.trainer.storage, self._metric))[0]

    def _known(self) -> bool:
        return any(score is not None for score in self._scores.values())

    def _describe_unknown(self) -> str:
        storage = self.trainer.storage
        names = [
            name
            for name, is_smoothed in storage.smoothing_hints().items()
            if "/" in name and not is_smoothed and latest_score(storage, name) is not None
        ]
        names = comm.all_gather(names)[0]
        return (
            f"SOLVER.EARLY_STOP.METRIC: {self._metric} has no value in the evaluation; those that "
            f"have one are {name_first(names) or 'none'}"
        )

    def _end_if_exhausted(self, done: int) -> None:
        if not self._known():
            return
        best, since = progress(self._scores, lower_is_better(self._metric))
        if since < self._patience:
            return
        logger.info(
            f"early stop after {done} iterations: {self._metric} has not improved for {since} "
            f"evaluations, and was best after {best} iterations, {self._scores[best]:.4g}. To go "
            f"on, give --resume with SOLVER.EARLY_STOP.PATIENCE above {since}, or with "
            "SOLVER.EARLY_STOP.ENABLED False"
        )
        # A continued run is told that it has ended before it has taken a step.
        self.trainer.iter = done - 1
        self.trainer.checkpointer.save("model_final", iteration=done - 1)
        self.trainer.max_iter = done

    def state_dict(self) -> dict[str, Any]:
        return {"metric": self._metric, "scores": self._scores}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting; scores of another metric count for nothing."""
        if state_dict["metric"] == self._metric:
            self._scores = dict(state_dict["scores"])


def progress(scores: Mapping[int, float | None], lower_is_better: bool) -> Progress:
    """Return how a run does: of equal scores the first is the best, and None is none.

    Args:
        scores: after each evaluated number of iterations; at least one is not None.
        lower_is_better: as for losses.
    """
    order = sorted(scores)
    sign = -1 if lower_is_better else 1
    values = [sign * score if (score := scores[done]) is not None else None for done in order]
    best = max((i for i, v in enumerate(values) if v is not None), key=lambda i: (values[i], -i))
    return Progress(order[best], len(order) - 1 - best)


def lower_is_better(metric: str) -> bool:
    """Whether a stored score, such as "validation/total_loss" or "ema/bbox/AP", is a loss."""
    return metric.split("/")[-2:-1] == [GROUP]


def stored_metric(cfg: CfgNode) -> str:
    """Return under which name SOLVER.EARLY_STOP.METRIC is stored: the average's where there is one.

    Of several test sets it is the first one's, unless METRIC begins with the name of another.
    """
    metric, test_sets = cfg.SOLVER.EARLY_STOP.METRIC, cfg.DATASETS.TEST
    if not any(metric.startswith(f"{name}/") for name in test_sets):
        metric = score_name(test_sets, metric)
    return f"{EMA.name}/{metric}" if cfg.SOLVER.EMA.ENABLED else metric


def stops_early(cfg: CfgNode) -> bool:
    """Whether SOLVER.EARLY_STOP is on and has evaluations to go by."""
    return cfg.SOLVER.EARLY_STOP.ENABLED and evaluates_on_the_way(cfg)


def build_early_stop(
    cfg: CfgNode, scores: Mapping[WeightAverage, Callable[[], dict]]
) -> list[HookBase]:
    """The hook, behind those that score each average on the way, by which it may go.

    `scores`: what evaluates each average.
    """
    if not stops_early(cfg):
        return []
    period = cfg.TEST.EVAL_PERIOD
    evaluations = [
        CatchUpEvaluation(period, partial(_named, average, score), eval_after_train=False)
        for average, score in scores.items()
    ]
    stop = EarlyStop(period, stored_metric(cfg), cfg.SOLVER.EARLY_STOP.PATIENCE)
    return [*evaluations, stop]


def _named(average: WeightAverage, score: Callable[[], dict]) -> dict[str, dict]:
    """Score an average on the way, under its name; nothing where there is none yet."""
    return {average.name: score()} if average.count else {}


def early_stop_warnings(cfg: CfgNode) -> list[str]:
    """Return a line where SOLVER.EARLY_STOP is on, and nothing will be evaluated."""
    if not cfg.SOLVER.EARLY_STOP.ENABLED or stops_early(cfg):
        return []
    return [
        "SOLVER.EARLY_STOP goes by evaluations, and there are none on the way (DATASETS.TEST "
        f"{tuple(cfg.DATASETS.TEST)}, TEST.EVAL_PERIOD {cfg.TEST.EVAL_PERIOD}): the run goes on to "
        "SOLVER.MAX_ITER"
    ]


def check_early_stop(cfg: CfgNode) -> None:
    """Check SOLVER.EARLY_STOP before a run.

    Raises:
        UserError: it cannot work, or no evaluation will have such a score.
    """
    early = cfg.SOLVER.EARLY_STOP
    if not stops_early(cfg):
        return
    if cfg.SOLVER.SWA.ENABLED:
        raise UserError(
            "SOLVER.EARLY_STOP does not go with SOLVER.SWA, which averages the ends of all cycles: "
            "set SOLVER.EARLY_STOP.ENABLED False"
        )
    if early.PATIENCE < 1:
        raise UserError(f"SOLVER.EARLY_STOP.PATIENCE has to be 1 or more, got {early.PATIENCE}")
    _check_metric(cfg, early.METRIC)


def _check_metric(cfg: CfgNode, metric: str) -> None:
    sets = cfg.DATASETS.TEST
    dataset = next((name for name in sets if metric.startswith(f"{name}/")), sets[0])
    group, _, score = metric.removeprefix(f"{dataset}/").partition("/")
    key = "SOLVER.EARLY_STOP.METRIC"
    if group == GROUP and not cfg.TEST.VALIDATION_LOSS:
        raise UserError(f"{key} is {metric}: set TEST.VALIDATION_LOSS True, which computes it")
    classes = MetadataCatalog.get(dataset).get("thing_classes", [])
    of_classes = [f"AP-{name}" for name in classes]
    known: dict[str, list[str]] = {
        "bbox": [*_AP_NAMES, *(of_classes if len(classes) > 1 else [])],
        "vfnet": of_classes,
    }
    if cfg.TEST.VALIDATION_LOSS:  # which losses a detector has is seen at the first evaluation
        known[GROUP] = [score if score.startswith("loss_") else "total_loss"]
    masks = cfg.MODEL.MASK_ON or cfg.MODEL.KEYPOINT_ON
    if score not in known.get(group, [score] if masks else []):
        names = name_first([f"{group}/{name}" for group in known for name in known[group]])
        raise UserError(f"{key} is {metric}, which no evaluation has: expected one of {names}")
    if not any(record.get("annotations") for record in DatasetCatalog.get(dataset)):
        raise UserError(f"{key} is {metric}, but {dataset} has no annotations to compute it with")
