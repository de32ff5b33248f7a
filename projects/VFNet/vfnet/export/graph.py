"""A detector as one graph, from pixels to detections, which `torch.export` takes."""

from typing import Any

import torch
from detectron2.modeling import GeneralizedRCNN
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import UserError
from ..modeling.inference.candidates import best_locations, best_pairs
from ..modeling.inference.suppression import nms
from ..modeling.locations import padded_size
from ..modeling.meta_arch.candidates import CandidateDetector
from .selection import SelectionRule, clip, detections


class DetectorGraph(nn.Module):
    """A detector whose inputs and outputs are tensors alone.

    Naming convention: N = images, H, W = their padded size, R = locations of all levels, K =
    classes, D = detections at most.
    """

    detector: CandidateDetector

    def __init__(self, detector: nn.Module, *, rgb: bool, raw: bool = False):
        """
        Args:
            detector: one of this project, in evaluation mode.
            rgb: whether it takes RGB (INPUT.FORMAT), else BGR.
            raw: whether to give all locations' scores and boxes instead of detections.

        Raises:
            UserError: no detector of this project's dense ones; as `selection_rule`, unless `raw`.
        """
        super().__init__()
        check_architecture(type(detector))
        self.detector = detector
        self.rgb = rgb
        self.rule = None if raw else selection_rule(self.detector)

    def forward(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, ...]:
        """Detect.

        Args:
            images: (N, 3, H, W) uint8 RGB; right of and below an image stands whatever.
            sizes: (N, 2) int64, height and width of each image.

        Returns:
            boxes (N, D, 4), scores (N, D), classes (N, D) and number (N,): see `Detections`; raw:
            scores (N, R, K), and boxes (N, R, 4), clipped to their image.
        """
        detector = self.detector
        features = detector.features(self.normalised(images, sizes))
        scores, boxes, factor = detector.decode(features, detector.head(features))
        n = images.shape[0]
        scores, boxes = scores.view(n, -1, scores.shape[1]), boxes.view(n, -1, 4)
        factor = None if factor is None else factor.view(n, -1)
        boxes = clip(boxes, sizes - detector.box_margin)
        if self.rule is None:
            return (scores if factor is None else scores * factor[:, :, None]), boxes
        return detections(scores, boxes, factor, detector.level_counts(features), self.rule)

    def normalised(self, images: Tensor, sizes: Tensor) -> Tensor:
        """Pixels as the backbone takes them: normalised, then 0 outside the image, and padded."""
        height, width = images.shape[2:]
        pixels = (images if self.rgb else images.flip(1)).float()
        pixels = (pixels - self.detector.pixel_mean) / self.detector.pixel_std
        rows = torch.arange(height, device=images.device) < sizes[:, :1]  # (N, H)
        columns = torch.arange(width, device=images.device) < sizes[:, 1:]
        inside = rows[:, None, :, None] & columns[:, None, None, :]
        pixels = torch.where(inside, pixels, 0.0)
        bottom, right = padded_size((height, width), self.detector.backbone.size_divisibility)
        return F.pad(pixels, (0, right - width, 0, bottom - height))


def check_architecture(architecture: type[nn.Module]) -> None:
    """Whether detectors of this class have a graph.

    Raises:
        UserError: they have none.
    """
    if issubclass(architecture, CandidateDetector):
        return
    rcnn = issubclass(architecture, GeneralizedRCNN)
    hint = " (Libra Faster R-CNN, say), which detects in two stages" if rcnn else ""
    raise UserError(
        "export expects one of this project's dense detectors (VFNet, ATSS, GFL, FoveaBox, "
        f"RepPoints, QualityRetinaNet), got {architecture.__name__}{hint}: choose a config of one "
        "of them"
    )


def selection_rule(detector: CandidateDetector) -> SelectionRule:
    """What the detector's own path to detections decides by.

    Raises:
        UserError: it suppresses by soft-NMS, or gives any number of detections.
    """
    rule: Any = detector.candidate_rule
    suppression: Any = detector.suppression
    if suppression.func is not nms:
        raise UserError(
            "a graph has no soft-NMS, got NMS_TYPE "
            f"'soft_nms_{suppression.keywords.get('method')}': export with --raw and suppress "
            "outside, or set NMS_TYPE 'nms'"
        )
    if suppression.keywords["max_detections"] < 1:
        raise UserError(
            "a graph has a largest number of detections, got TEST.DETECTIONS_PER_IMAGE "
            f"{suppression.keywords['max_detections']}: set it, or export with --raw"
        )
    assert rule.func in (best_pairs, best_locations), rule
    return SelectionRule(
        by_location=rule.func is best_locations,
        score_threshold=rule.keywords["score_threshold"],
        topk=rule.keywords["topk"],
        iou_threshold=suppression.keywords["iou_threshold"],
        max_detections=suppression.keywords["max_detections"],
    )
