"""How far an exported file is from the detector in torch, on the same padded pictures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from detectron2.structures import ImageList, Instances, pairwise_iou
from torch import Tensor
from torch.nn import functional as F

from ..errors import UserError
from ..modeling.locations import padded_size
from ..modeling.meta_arch.candidates import CandidateDetector
from .exported import ExportedDetector
from .graph import DetectorGraph
from .selection import SelectionRule

# What float32's rounding may differ by, of a detector whose detections are the same ones.
BOX_TOLERANCE = 0.1  # pixels of the resized picture
SCORE_TOLERANCE = 1e-3
IOU_TOLERANCE = 1e-3


class Agreement(NamedTuple):
    """The largest distances found.

    boxes: in pixels of the resized picture. scores: of boxes that belong together. missing:
    detections that one side alone has, though no threshold decided so by rounding. compared:
    detections of the file that the other side has too, or all locations.
    """

    boxes: float = 0.0
    scores: float = 0.0
    missing: int = 0
    compared: int = 0

    @property
    def holds(self) -> bool:
        """Whether the distances are those of rounding."""
        close = self.boxes <= BOX_TOLERANCE and self.scores <= SCORE_TOLERANCE
        return close and not self.missing

    def worst(self, other: Agreement) -> Agreement:
        """The larger of both, in each; all that was compared."""
        return Agreement(
            max(self.boxes, other.boxes),
            max(self.scores, other.scores),
            max(self.missing, other.missing),
            self.compared + other.compared,
        )


class RawOutput(NamedTuple):
    """Scores (R, K) and boxes (R, 4) of all locations of a picture, of the detector in torch."""

    scores: Tensor
    boxes: Tensor

    def has(self, found: Instances) -> Tensor:
        """Whether a location has each of the detections (F,), but for rounding."""
        boxes = (found.pred_boxes.tensor[:, None] - self.boxes).abs().amax(dim=2)  # (F, R)
        scores = (found.scores[:, None] - self.scores.T[found.pred_classes]).abs()
        return ((boxes <= BOX_TOLERANCE) & (scores <= SCORE_TOLERANCE)).any(dim=1)


def check_pictures(
    exported: ExportedDetector, graph: DetectorGraph, files: Iterable[str]
) -> Agreement:
    """Compare a file with the detector of `graph` on pictures.

    Raises:
        UserError: a picture cannot be read, or they differ by more than rounding; it names the
            picture that differs most.
    """
    found: dict[str, Agreement] = {}
    for file in files:
        found[file] = compare_on(exported, graph, exported.read(file))
    if not found:
        raise UserError("expected pictures to compare on, got none")
    failed = [file for file in found if not found[file].holds]
    if failed:
        worst = max(failed, key=lambda file: (found[file].missing, *found[file][:2]))
        raise UserError(
            f"the {exported.description.format} file differs from the detector in torch on "
            f"{len(failed)} of {len(found)} pictures, most on {worst}: boxes by "
            f"{found[worst].boxes:.2g} px, scores by {found[worst].scores:.2g}, "
            f"{found[worst].missing} detections on one side only (allowed: {BOX_TOLERANCE} px, "
            f"{SCORE_TOLERANCE}, none); nothing was written"
        )
    agreement = Agreement()
    for each in found.values():
        agreement = agreement.worst(each)
    return agreement


@torch.no_grad()
def compare_on(exported: ExportedDetector, graph: DetectorGraph, image: Tensor) -> Agreement:
    """Compare on an image (3, H, W), resized, in the detector's format of colours."""
    images, sizes = exported.arrays([image])
    if graph.rule is None:
        outputs = exported.run(images, sizes)
        scores, boxes = graph(torch.from_numpy(images), torch.from_numpy(sizes))
        return _compare_raw(outputs, scores, boxes)
    (found,) = exported([{"image": image}])
    expected = detect_padded(graph.detector, image, images.shape[2:])
    agreement = compare(found["instances"], expected, graph.rule)
    if agreement.holds:
        return agreement
    raw = DetectorGraph(graph.detector, rgb=graph.rgb, raw=True)
    scores, boxes = raw(torch.from_numpy(images), torch.from_numpy(sizes))
    return compare(found["instances"], expected, graph.rule, RawOutput(scores[0], boxes[0]))


def detect_padded(detector: CandidateDetector, image: Tensor, canvas: tuple[int, ...]) -> Instances:
    """The detector's own detections of an image (3, H, W), padded as one of size `canvas` is."""
    images = detector.preprocess_image([{"image": image}])
    bottom, right = padded_size(canvas, detector.backbone.size_divisibility)
    height, width = images.tensor.shape[2:]
    padding = (0, right - width, 0, bottom - height)
    images = ImageList(F.pad(images.tensor, padding), images.image_sizes)
    features = detector.features(images.tensor)
    (instances,) = detector.forward_inference(images, features, detector.head(features))
    return instances


def compare(
    found: Instances,
    expected: Instances,
    rule: SelectionRule,
    locations: RawOutput | None = None,
) -> Agreement:
    """Pair detections of the same picture, nearest first, and compare the pairs.

    A detection may have no partner where rounding decides: its score is that of the threshold or of
    the last place, or it overlaps another one of its class by what suppression allows. Or, which
    the torch detector's `locations` tell, another one stands in its place: see `_in_place_of`.
    """
    # Not torch.cdist, which passes over NaN.
    boxes = (found.pred_boxes.tensor[:, None] - expected.pred_boxes.tensor).abs().amax(dim=2)
    scores = (found.scores[:, None] - expected.scores).abs()
    distance = torch.maximum(boxes / BOX_TOLERANCE, scores / SCORE_TOLERANCE)
    distance[found.pred_classes[:, None] != expected.pred_classes] = float("inf")
    distance[distance.isnan()] = float("inf")  # what is no number is no pair
    agreement = Agreement()
    left = [torch.ones(len(side), dtype=torch.bool) for side in (found, expected)]
    if locations is not None:
        left = [~mask for mask in _in_place_of(found, expected, distance <= 1, rule, locations)]
        agreement = Agreement(compared=int((~left[0]).sum()))  # each with a location
        distance[~left[0]], distance[:, ~left[1]] = float("inf"), float("inf")
    for _ in range(min(distance.shape)):
        i, j = divmod(int(distance.argmin()), distance.shape[1])
        # Farther apart than this they are no pair, but two detections without a partner.
        if distance[i, j] > 100:
            break
        agreement = agreement.worst(Agreement(boxes[i, j].item(), scores[i, j].item(), 0, 1))
        distance[i], distance[:, j] = float("inf"), float("inf")
        left[0][i], left[1][j] = False, False
    alone = torch.cat(left) & ~_decided_by_rounding(found, expected, rule)
    return agreement._replace(missing=int(alone.sum()))


def _in_place_of(
    found: Instances,
    expected: Instances,
    pairs: Tensor,
    rule: SelectionRule,
    locations: RawOutput,
) -> tuple[Tensor, Tensor]:
    """Which detections stand where the other side has another one, chosen by rounding.

    Of two candidates that suppress each other, with scores that rounding tells apart, one side has
    the one, and one the other; what these suppress may differ then, too. `pairs` (F, E): those that
    are the same -> of F, of E.
    """
    alone = ~pairs.any(dim=1) & locations.has(found), ~pairs.any(dim=0)
    overlap = pairwise_iou(found.pred_boxes, expected.pred_boxes) > rule.iou_threshold
    rivals = overlap & (found.pred_classes[:, None] == expected.pred_classes)
    rivals &= alone[0][:, None] & alone[1]
    ties = rivals & ((found.scores[:, None] - expected.scores).abs() <= SCORE_TOLERANCE)
    of_found, of_expected = ties.any(dim=1), ties.any(dim=0)
    of_found |= (rivals & of_expected).any(dim=1)
    of_expected |= (rivals & of_found[:, None]).any(dim=0)
    return of_found, of_expected


def _decided_by_rounding(found: Instances, expected: Instances, rule: SelectionRule) -> Tensor:
    """Whether rounding may decide that a detection is one, of those of both sides (E,)."""
    both, places = Instances.cat([found, expected]), [rule.score_threshold]
    if max(len(found), len(expected)) >= rule.max_detections:
        places.append(float(both.scores.min()))
    near = (both.scores[:, None] - torch.tensor(places)).abs() <= SCORE_TOLERANCE
    overlap = (pairwise_iou(both.pred_boxes, both.pred_boxes) - rule.iou_threshold).abs()
    same_class = both.pred_classes[:, None] == both.pred_classes
    return near.any(dim=1) | ((overlap <= IOU_TOLERANCE) & same_class).any(dim=1)


def _compare_raw(outputs: dict[str, np.ndarray], scores: Tensor, boxes: Tensor) -> Agreement:
    by = {
        name: (torch.from_numpy(outputs[name]) - expected).abs().max().item()
        for name, expected in (("scores", scores), ("boxes", boxes))
    }
    return Agreement(**by, compared=boxes.shape[-2])
