"""A dense detector whose locations predict scores and boxes: features -> losses, or Instances.

What the detectors of the family share. They differ in the head's outputs, the matcher, how boxes
are coded, what weighs a positive, and what ranks a detection.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import Backbone, build_backbone
from detectron2.structures import ImageList, Instances
from torch import Tensor, nn

from ...config import check_class_names, detector_key, detector_node
from ...errors import UserError
from ...utils.device import to_device
from ...utils.precision import autocast_type
from ..box_coding import square_boxes
from ..inference.candidates import CandidateRule, build_candidate_rule
from ..inference.suppression import Suppression, build_suppression
from ..locations import at_locations, flatten_levels, grid_points, level_sizes
from ..losses.classification import ClassificationLoss, build_classification_loss
from ..matching.ignored import in_ignored_regions
from ..matching.targets import Matcher, Size, Targets, assign_targets
from .candidates import CandidateDetector, Decoded


def classification_loss_of(
    node: CfgNode, prefix: str, focal_alpha: float, focal_gamma: float, **switches: bool
) -> ClassificationLoss:
    """The loss of a detector's node; for the other arguments see `build_classification_loss`."""
    return build_classification_loss(
        node.CLS_LOSS,
        prefix=prefix,
        varifocal_alpha=node.VARIFOCAL_ALPHA,
        varifocal_gamma=node.VARIFOCAL_GAMMA,
        varifocal_iou_weighted=node.VARIFOCAL_IOU_WEIGHTED,
        quality_focal_beta=node.QUALITY_FOCAL_BETA,
        focal_alpha=focal_alpha,
        focal_gamma=focal_gamma,
        **switches,
    )


def _check_levels(backbone: Backbone, names: list[str], prefix: str) -> None:
    shapes = backbone.output_shape()
    levels = sorted(shapes, key=lambda name: shapes[name].stride)
    if not names or list(names) != [name for name in levels if name in names]:
        raise UserError(
            f"{prefix}.IN_FEATURES must name levels that the backbone gives, the finest first: "
            f"some of {levels}; got {names}. MODEL.FPN.IN_FEATURES from res2 on gives p2"
        )


class LocationDetector(CandidateDetector):
    """The base of VFNet and its family.

    Naming convention: N = images, R = locations of all levels, K = classes, P = positives.
    """

    # Varifocal loss also learns where targets are not valid: see `build_classification_loss`.
    varifocal_everywhere = False
    # Where in its cell a location stands: 0, at its corner; 0.5, in its middle.
    place_in_cell = 0.0

    def __init__(
        self,
        *,
        backbone: Backbone,
        head: nn.Module,
        head_in_features: list[str],
        pixel_mean: list[float],
        pixel_std: list[float],
        num_classes: int,
        matcher: Matcher,
        classification_loss: ClassificationLoss,
        cls_loss_weight: float,
        box_loss_weight: float,
        candidate_rule: CandidateRule,
        suppression: Suppression,
        autocast_test: torch.dtype | None = None,
        ignore_iof_thresh: float = -1.0,
    ):
        """
        Args:
            backbone, head_in_features, pixel_mean, pixel_std: as in `DenseDetector`.
            head: features -> predictions, of which the subclass knows more.
            num_classes: K.
            matcher: which locations learn which box.
            classification_loss, candidate_rule, suppression: see what builds them.
            cls_loss_weight, box_loss_weight: factors of the losses.
            autocast_test: what autocast computes in at inference; None: whatever is on.
            ignore_iof_thresh: locations take part in no loss where an ignored region covers more
                than this share of their prior box (`prior_sides`); below 0: all take part.
        """
        super().__init__(
            backbone, head, head_in_features, pixel_mean=pixel_mean, pixel_std=pixel_std
        )
        shapes = backbone.output_shape()
        self.strides = [shapes[name].stride for name in head_in_features]
        self.num_classes = num_classes
        self.matcher = matcher
        self.classification_loss = classification_loss
        self.cls_loss_weight = cls_loss_weight
        self.box_loss_weight = box_loss_weight
        self.candidate_rule = candidate_rule
        self.suppression = suppression
        self.autocast_test = autocast_test
        self.ignore_iof_thresh = ignore_iof_thresh

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Everything but `head` and `matcher`, from the detector's own node."""
        node, prefix = detector_node(cfg), detector_key(cfg)
        device = torch.device(cfg.MODEL.DEVICE).type
        check_class_names(cfg)
        backbone = build_backbone(cfg)
        _check_levels(backbone, node.IN_FEATURES, prefix)
        return {
            "backbone": backbone,
            "head_in_features": node.IN_FEATURES,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "num_classes": node.NUM_CLASSES,
            "classification_loss": classification_loss_of(
                node,
                prefix,
                node.FOCAL_ALPHA,
                node.FOCAL_GAMMA,
                varifocal_everywhere=cls.varifocal_everywhere,
                of_probabilities=cls.learns_probabilities(node),
            ),
            "cls_loss_weight": node.CLS_LOSS_WEIGHT,
            "box_loss_weight": node.BOX_LOSS_WEIGHT,
            "candidate_rule": build_candidate_rule(
                node.CANDIDATE_TEST,
                node.SCORE_THRESH_TEST,
                node.TOPK_CANDIDATES_TEST,
                prefix=prefix,
            ),
            "suppression": build_suppression(
                node.NMS_TYPE,
                node.NMS_THRESH_TEST,
                cfg.TEST.DETECTIONS_PER_IMAGE,
                node.SOFT_NMS_SIGMA,
                node.SOFT_NMS_MIN_SCORE,
                prefix=prefix,
            ),
            "autocast_test": autocast_type(f"{prefix}.PRECISION_TEST", node.PRECISION_TEST, device),
            "ignore_iof_thresh": node.IGNORE_IOF_THRESH,
        }

    @staticmethod
    def learns_probabilities(node: CfgNode) -> bool:
        """Whether the classification loss is given probabilities instead of logits."""
        return False

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """Losses of a batch in training, else its detections: see `CandidateDetector.forward`."""
        with self._autocast():
            return super().forward(batched_inputs)

    def predict(self, batched_inputs: list[dict[str, Any]]) -> tuple[ImageList, list[Tensor], Any]:
        """The network alone -> the batch's images, the head's features and its predictions."""
        with self._autocast():
            return super().predict(batched_inputs)

    def _autocast(self) -> AbstractContextManager:
        if self.training or self.autocast_test is None:
            return nullcontext()
        return torch.autocast(self.device.type, self.autocast_test)

    def _move_to_current_device(self, x: Tensor) -> Tensor:
        # Detectron2's copy, which exporters know, makes the host wait.
        return to_device(x, self.device) if self.training else super()._move_to_current_device(x)

    def assign(
        self,
        images: ImageList,
        features: list[Tensor],
        predictions: Any,
        gt_instances: list[Instances],
        regions: Sequence[Tensor] = (),
    ) -> Targets:
        """What each location of the batch learns; found where the ground truth is.

        The predictions play no part but in detectors whose targets depend on them.
        """
        sizes, ignored = level_sizes(features), None
        if self.ignore_iof_thresh >= 0:
            priors = self.prior_boxes(sizes, gt_instances[0].gt_boxes.device)
            ignored = in_ignored_regions(regions, priors, self.ignore_iof_thresh)
        targets = assign_targets(
            gt_instances,
            images.image_sizes,
            sizes,
            self.strides,
            self.backbone.size_divisibility,
            self.matcher,
            ignored,
        )
        return targets.to(self.device)

    def priors(self, features: list[Tensor]) -> Tensor:
        """The points that predictions are relative to -> (R, 2)."""
        return self.points(features)

    def points(self, features: list[Tensor]) -> Tensor:
        """Where the locations of all levels stand -> (R, 2), x and y in pixels."""
        return self._points(level_sizes(features), self.device)

    def _points(self, sizes: list[Size], device: torch.device) -> Tensor:
        points = grid_points(sizes, self.strides, device)
        if not self.place_in_cell:
            return points
        return points + at_locations(sizes, self.strides, device) * self.place_in_cell

    def prior_boxes(self, sizes: list[Size], device: torch.device) -> Tensor:
        """The square that each location stands for before anything is learnt -> (R, 4)."""
        half_sides = at_locations(sizes, self.prior_sides(), device) / 2
        return square_boxes(self._points(sizes, device), half_sides)

    def prior_sides(self) -> list[float]:
        """Its side in pixels, of each level; for what is ignored (`ignore_iof_thresh`)."""
        raise NotImplementedError

    def location_strides(self, predictions: Any) -> Tensor:
        """Pixels a cell at each location of all levels -> (R, 1)."""
        return at_locations(level_sizes(predictions.logits), self.strides, self.device)

    def scores(self, predictions: Any) -> Tensor:
        """The score of each location and class -> (N R, K) float32, 0 to 1."""
        return flatten_levels(predictions.logits).float().sigmoid()

    def score_factor(self, predictions: Any) -> Tensor | None:
        """What the scores of a location's candidates are multiplied by -> (N R,), or None."""
        return None

    def detected_boxes(self, predictions: Any, points: Tensor) -> Tensor:
        """The box that each location detects -> (N R, 4), x1, y1, x2, y2 in pixels, not clipped.

        `points` (R, 2) say where the locations stand, in pixels.
        """
        raise NotImplementedError

    def decode(self, features: list[Tensor], predictions: Any) -> Decoded:
        """`scores`, `detected_boxes` and `score_factor` of all locations."""
        boxes = self.detected_boxes(predictions, self.points(features))
        return Decoded(self.scores(predictions), boxes, self.score_factor(predictions))
