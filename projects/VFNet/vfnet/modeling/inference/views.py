"""What test-time augmentation asks of a detector: two methods, and who has them."""

from typing import Any, Protocol, runtime_checkable

from detectron2.modeling import GeneralizedRCNN
from detectron2.structures import Instances
from torch import nn

from ...errors import UserError
from .candidates import Candidates
from .rcnn import RCNNViews, box_predictor


@runtime_checkable
class ViewDetector(Protocol):
    """A detector whose candidates of several views of an image can be suppressed together."""

    def find_candidates(self, batched_inputs: list[dict[str, Any]]) -> list[Candidates]:
        """What suppression chooses from, of each image as it is given, in its pixels."""
        ...

    def suppress(self, candidates: Candidates, image_size: tuple[int, int]) -> Instances:
        """From the candidates of an image of this (H, W) to its detections, best first."""
        ...


def as_view_detector(model: nn.Module) -> ViewDetector:
    """The model itself where it has the two methods, or what gives Detectron2's R-CNNs them.

    Raises:
        UserError: it can neither.
    """
    if isinstance(model, ViewDetector):
        return model
    predictor = box_predictor(model) if isinstance(model, GeneralizedRCNN) else None
    if predictor is not None:
        return RCNNViews(model, predictor)
    raise UserError(
        "test-time augmentation (TEST.AUG) expects a detector with the methods find_candidates "
        "and suppress, or a GeneralizedRCNN with a proposal generator and ROI heads that predict "
        f"boxes; got {type(model).__name__}. Set TEST.AUG.ENABLED False"
    )
