"""What an average writes when a run ends: model_swa or model_ema (.pth, .safetensors), and scores.

Until then an average is a part of every checkpoint: averaging.py.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.evaluation.testing import flatten_results_dict
from torch import nn

from ...checkpoint import VFNetCheckpointer
from .averaging import WeightAverage
from .evaluation import latest_score, score_name

logger = logging.getLogger(__name__)


class PublishAverage(HookBase):
    """At the end of a run write an average as a checkpoint, score it, and say which file is which.

    It has to come after the hook that evaluates the raw weights.
    """

    def __init__(
        self,
        average: WeightAverage,
        checkpointer: VFNetCheckpointer,
        score: Callable[[], dict],
        metric: str,
    ) -> None:
        """
        Args:
            average: what to publish.
            checkpointer: writes the averaged model, and tags nothing as the last.
            score: evaluates the averaged model, on all processes; nested results.
            metric: the name of the AP that is logged, as stored.
        """
        self._average = average
        self._checkpointer = checkpointer
        self._score = score
        self._metric = metric

    def after_train(self) -> None:
        """Write, score and log the average; its scores go to the storage with its name first."""
        average, storage = self._average, self.trainer.storage
        if not average.count:
            logger.warning(f"model_{average.name}.pth is not written: no weights were averaged")
            return
        average.finish()
        self._checkpointer.save(f"model_{average.name}")
        raw = latest_score(storage, self._metric)
        scores = flatten_results_dict(self._score())
        named = {f"{average.name}/{name}": float(value) for name, value in scores.items()}
        storage.put_scalars(**named, smoothing_hint=False)
        logger.info(
            f"raw weights model_final.pth: {self._words(raw)}; {average.describe()} "
            f"model_{average.name}.pth: {self._words(scores.get(self._metric))}"
        )

    def _words(self, score: Any) -> str:
        name = "AP" if self._metric == "bbox/AP" else self._metric
        return "not scored" if score is None else f"{name} {score:.1f}"


def build_publishing(
    cfg: CfgNode,
    scores: Mapping[WeightAverage, Callable[[], dict]],
    file_of: Callable[[nn.Module], VFNetCheckpointer],
) -> list[HookBase]:
    """The hook of each average; see `PublishAverage`.

    Args:
        cfg: the config.
        scores: what evaluates each average.
        file_of: what writes a model, and tags nothing as the last.
    """
    metric = score_name(cfg.DATASETS.TEST)
    return [
        PublishAverage(average, file_of(average.averaged_model), score, metric)
        for average, score in scores.items()
    ]
