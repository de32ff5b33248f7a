"""Candidates of Detectron2's R-CNNs, whatever their ROI heads are."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.roi_heads import FastRCNNOutputLayers
from detectron2.structures import Instances
from torch import nn

from .candidates import Candidates
from .suppression import nms, suppressed


class RCNNViews:
    """A GeneralizedRCNN as a `ViewDetector`: its boxes alone, no masks and no keypoints."""

    def __init__(self, model: GeneralizedRCNN, predictor: FastRCNNOutputLayers):
        """`predictor` is the model's `box_predictor`."""
        self.model = model
        self.predictor = predictor

    def find_candidates(self, batched_inputs: list[dict[str, Any]]) -> list[Candidates]:
        """The boxes above the threshold of scores, clipped; nothing is suppressed."""
        heads = self.model.roi_heads
        with (
            _set(self.predictor, test_nms_thresh=float("inf"), test_topk_per_image=-1),
            _set(heads, mask_on=False, keypoint_on=False),
        ):
            found = self.model.inference(batched_inputs, do_postprocess=False)
        return [Candidates(x.pred_boxes.tensor, x.scores, x.pred_classes) for x in found]

    def suppress(self, candidates: Candidates, image_size: tuple[int, int]) -> Instances:
        """From the candidates of an image of this (H, W) to its detections, best first."""
        suppression = partial(
            nms,
            iou_threshold=self.predictor.test_nms_thresh,
            max_detections=self.predictor.test_topk_per_image,
        )
        return suppressed(candidates, image_size, suppression)


def box_predictor(model: GeneralizedRCNN) -> FastRCNNOutputLayers | None:
    """What chooses and suppresses the model's boxes, of a cascade the last; None: nothing does."""
    predictor = getattr(model.roi_heads, "box_predictor", None)
    if isinstance(predictor, nn.ModuleList):
        predictor = predictor[-1]
    has_proposals = model.proposal_generator is not None
    return predictor if has_proposals and isinstance(predictor, FastRCNNOutputLayers) else None


@contextmanager
def _set(owner: Any, **values: Any) -> Iterator[None]:
    """Within it, attributes that `owner` has are these."""
    before = {name: getattr(owner, name) for name in values if hasattr(owner, name)}
    try:
        for name in before:
            setattr(owner, name, values[name])
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)
