"""How tests compare tensors with reference numbers."""

import torch
from detectron2.structures import Instances
from torch import Tensor


def relative_difference(actual: Tensor, expected: Tensor) -> float:
    """max|a - b| / max|b|; a shape that differs is an error."""
    assert actual.shape == expected.shape, f"{tuple(actual.shape)} != {tuple(expected.shape)}"
    scale = expected.abs().max().clamp(min=1e-12)
    return ((actual - expected).abs().max() / scale).item()


def assert_same_detections(actual: Instances, expected: dict[str, Tensor]) -> None:
    """The same boxes (to 0.05 px), classes and scores, best first; of near scores either first.

    `expected` holds "boxes" (D, 4), "classes" and "scores" (D,). Each is found once: detections of
    scores nearer than 1e-5 may have changed places.
    """
    boxes, scores, classes = actual.pred_boxes.tensor, actual.scores, actual.pred_classes
    assert len(actual) == len(expected["scores"])
    assert (scores[1:] <= scores[:-1]).all()
    torch.testing.assert_close(scores, expected["scores"], rtol=1e-4, atol=1e-5)
    same = (
        (classes[:, None] == expected["classes"])
        & ((boxes[:, None] - expected["boxes"]).abs().amax(dim=2) < 0.05)
        & torch.isclose(scores[:, None], expected["scores"], rtol=1e-4, atol=1e-5)
    )
    found: set[int] = set()
    for candidates in same:
        free = [place for place in candidates.nonzero()[:, 0].tolist() if place not in found]
        assert free, "a detection that the reference has not"
        found.add(free[0])
