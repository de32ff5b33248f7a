"""Other ways to run a detector's backbone and head in inference, and whether detections stay.

A way changes a model in place, so that `model(batch)` goes that way. What follows the head -
candidates, suppression - has sizes that depend on the data and is left as it is.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from detectron2.structures import Instances
from torch import Tensor, nn

from vfnet.errors import UserError
from vfnet.utils.precision import PRECISIONS

from .device import autocast, check_device

# The way that is not one of torch.compile's backends.
CUDA_GRAPHS = "CUDA graphs"

# Calls before a capture: libraries choose their algorithms then, which a capture cannot take in.
_WARM_UP = 3


def check_variant(variant: str, device: str) -> None:
    """Check that a device has such a way: `CUDA_GRAPHS`, a precision or torch.compile's backend.

    Raises:
        UserError: there is not.
    """
    if variant == CUDA_GRAPHS:
        if not device.startswith("cuda"):
            raise UserError(f"--cuda-graphs needs --device cuda, got --device {device}")
        return
    if variant in PRECISIONS:
        check_device(device, variant)
        return
    backends = torch.compiler.list_backends(exclude_tags=())
    if variant not in backends:
        raise UserError(
            f"--compile takes a backend of torch.compile, one of {', '.join(backends)}; "
            f"got {variant!r}"
        )


def apply_variant(
    variant: str, model: nn.Module, images: Tensor, precision: torch.dtype | None
) -> None:
    """Let a model's backbone and head run in a way of `check_variant`, precisions apart.

    Args:
        model: a dense detector; changed in place.
        images: (N, C, H, W), as the backbone will get them.
        precision: what autocast will compute in. A captured graph is for this one and for the size
            of these images alone.

    Raises:
        UserError: the model has no head of this kind.
    """
    if not hasattr(model, "head"):
        raise UserError(
            "--compile and --cuda-graphs expect a dense detector, with a backbone and a head; got "
            f"{type(model).__name__}"
        )
    if variant != CUDA_GRAPHS:
        model.backbone.compile(backend=variant)
        model.head.compile(backend=variant)
        return
    # A cast that autocast keeps would be freed when it ends, and replayed graphs would read it.
    with torch.no_grad(), autocast("cuda", precision, cache_enabled=False):
        backbone = CapturedGraph(model.backbone.forward, images)
        # The backbone's own outputs: between the two nothing is copied.
        features = [backbone.output[name] for name in model.head_in_features]
        head = CapturedGraph(model.head.forward, features)
    model.backbone.forward, model.head.forward = backbone, head


Tensors: TypeAlias = Tensor | Sequence[Tensor]


class CapturedGraph:
    """A function of one tensor or of several, as a CUDA graph: one launch for all its kernels.

    It takes tensors of its example's sizes alone, and returns the same tensors at each call,
    overwritten. Without gradients.
    """

    def __init__(self, function: Callable[[Any], Any], example: Tensors) -> None:
        """
        Args:
            function: its sizes and its kernels must not depend on the data.
            example: read at each replay; other tensors are copied into these.
        """
        self.inputs = _as_list(example)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                function(example)
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.output = function(example)

    def __call__(self, given: Tensors) -> Any:
        for kept, tensor in zip(self.inputs, _as_list(given)):
            if tensor.shape != kept.shape:
                raise UserError(
                    f"this CUDA graph was captured for tensors of {tuple(kept.shape)}, got "
                    f"{tuple(tensor.shape)}; capture one for each size"
                )
            if tensor is not kept:
                kept.copy_(tensor)
        self.graph.replay()
        return self.output


def _as_list(tensors: Tensors) -> list[Tensor]:
    return [tensors] if isinstance(tensors, Tensor) else list(tensors)


class Agreement(NamedTuple):
    """How detections differ from those that were expected, over all images of a batch.

    expected, found: their numbers.
    matched: expected ones that have a partner: same class, boxes within 1 pixel.
    box, score: largest differences of partners, in pixels and in score.
    """

    expected: int
    found: int
    matched: int
    box: float
    score: float

    def __str__(self) -> str:
        return (
            f"{self.found} detections for {self.expected}, {self.matched} of these found again "
            f"within 1 px; differences up to {self.box:.2g} px and {self.score:.2g} of score"
        )


def agreement(expected: Sequence[Instances], found: Sequence[Instances]) -> Agreement:
    """Compare the detections of the same images.

    Partners are each other's nearest boxes of the same class, since ranks of near-equal scores may
    swap.
    """
    boxes, scores = [torch.zeros(0)], [torch.zeros(0)]
    for left, right in zip(expected, found):
        if len(left) == 0 or len(right) == 0:
            continue
        between = left.pred_boxes.tensor[:, None] - right.pred_boxes.tensor
        distance = between.abs().amax(dim=2).nan_to_num(nan=float("inf"))
        distance[left.pred_classes[:, None] != right.pred_classes] = float("inf")
        nearest, partner = distance.min(dim=1)
        mutual = distance.argmin(dim=0)[partner] == torch.arange(len(left), device=partner.device)
        near = mutual & (nearest <= 1)
        boxes.append(nearest[near].cpu())
        scores.append((left.scores - right.scores[partner])[near].abs().cpu())
    box, score = torch.cat(boxes), torch.cat(scores)
    return Agreement(
        sum(map(len, expected)),
        sum(map(len, found)),
        len(box),
        box.max().item() if len(box) else 0.0,
        score.max().item() if len(score) else 0.0,
    )
