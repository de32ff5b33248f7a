"""FoveaBox, the detector: its losses, scores and boxes (https://arxiv.org/abs/1904.03797)."""

from functools import partial
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from fvcore.nn import smooth_l1_loss
from torch import Tensor

from ...errors import UserError
from ...utils.whole_batch import of_first_part, of_whole_batch
from ..box_coding import bounded_exp, boxes_to_distances, distances_to_boxes
from ..divergence import divergence_signs
from ..heads.foveabox import FoveaBoxHead, HeadOutput
from ..locations import at_locations, flatten_levels, level_sizes
from ..losses.box import SMOOTH_L1_BETA, iou_and_giou
from ..losses.classification import Positives
from ..matching.fovea import fovea_match_batch
from ..matching.targets import Targets
from .dense import LocationDetector

# A distance is learnt as that many base edges at least, and its inverse at most.
_SHORTEST = 1 / 16


@META_ARCH_REGISTRY.register()
class FoveaBox(LocationDetector):
    """FoveaBox, plain or aligned; letters of shapes as in `LocationDetector`.

    As in mmdet, losses are divided by numbers of this process alone, and boxes end a pixel before
    the image does.
    """

    varifocal_everywhere = True
    # The centres of the last pixels' row and column, as mmdet counts them.
    box_margin = 1
    place_in_cell = 0.5

    @configurable
    def __init__(self, *, base_edges: list[float], clip_to_first_image: bool, **shared: Any):
        """
        Args:
            base_edges: of each level, the distance whose logarithm is learnt as 0, in pixels.
            clip_to_first_image: the quality that a positive learns is that of its box clipped to
                the first image of the batch, as in the reference: a quirk of parity, by which a box
                right of or below a smaller first image loses all of its IoU. False: to its own.
            shared: see `LocationDetector`.
        """
        super().__init__(**shared)
        self.base_edges = base_edges
        self.clip_to_first_image = clip_to_first_image

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        shared, foveabox = super().from_config(cfg), cfg.MODEL.FOVEABOX
        for key in ("SCALE_RANGES", "BASE_EDGES"):
            if len(foveabox[key]) != len(foveabox.IN_FEATURES):
                raise UserError(
                    f"MODEL.FOVEABOX.{key} must have an entry for each of the "
                    f"{len(foveabox.IN_FEATURES)} levels of IN_FEATURES, got {len(foveabox[key])}; "
                    "set both keys together"
                )
        shapes = shared["backbone"].output_shape()
        return {
            **shared,
            "head": FoveaBoxHead(cfg, [shapes[name] for name in foveabox.IN_FEATURES]),
            "matcher": partial(
                fovea_match_batch, scale_ranges=foveabox.SCALE_RANGES, sigma=foveabox.SIGMA
            ),
            "base_edges": foveabox.BASE_EDGES,
            "clip_to_first_image": foveabox.CLIP_TO_FIRST_IMAGE,
        }

    def prior_sides(self) -> list[float]:
        """Those of the box that raw outputs of 0 mean: a base edge to each side of the point."""
        return [2 * edge for edge in self.base_edges]

    def losses(
        self, predictions: HeadOutput, points: Tensor, targets: Targets
    ) -> dict[str, Tensor]:
        """`loss_cls` and `loss_box`, smooth L1 of the distances' logarithms.

        Without a box all but `loss_cls`, the background's, are 0 with a gradient.
        """
        location, image = targets.index % len(points), targets.index // len(points)  # (P,)
        points, edges = points[location], self._edges(predictions, points)[location]
        predicted = flatten_levels(predictions.log_distances)[targets.index]  # (P, 4)
        wanted = boxes_to_distances(points, targets.boxes) / edges
        wanted = wanted.clamp(min=_SHORTEST, max=1 / _SHORTEST).log()
        loss_box = smooth_l1_loss(predicted, wanted, SMOOTH_L1_BETA, reduction="sum")

        boxes = distances_to_boxes(points, edges * bounded_exp(predicted.detach()))
        image_sizes = targets.image_sizes[image]
        if self.clip_to_first_image:
            image_sizes = of_first_part(targets.image_sizes[:1]).expand_as(image_sizes)
        iou, _ = iou_and_giou(_within(image_sizes, boxes), targets.boxes)
        quality = iou.clamp(min=1e-6)  # 0 would turn a positive into a negative
        # Padding is background under every loss.
        ignored = targets.ignored
        everywhere = torch.ones_like(targets.valid) if ignored is None else ~ignored
        positives = Positives(targets.index, targets.classes, quality)
        loss_cls = self.classification_loss(
            flatten_levels(predictions.logits), positives, everywhere, ignored
        )

        num_positive = of_whole_batch(len(targets.index))
        num_images = of_whole_batch(len(targets.image_sizes))
        number = quality.new_full((), max(num_positive, 1))
        signs = divergence_signs(predictions.log_distances, iou)
        self.record_positives(number, of_whole_batch(quality.sum()), targets, signs)
        return {
            "loss_cls": loss_cls * self.cls_loss_weight / (num_positive + num_images),
            "loss_box": loss_box * self.box_loss_weight / number,
        }

    def detected_boxes(self, predictions: HeadOutput, points: Tensor) -> Tensor:
        """The boxes of the predicted distances -> (N R, 4)."""
        log_distances = flatten_levels(predictions.log_distances).unflatten(
            0, (-1, points.shape[0])
        )
        distances = self._edges(predictions, points) * bounded_exp(log_distances)
        return distances_to_boxes(points, distances).flatten(0, 1)

    def _edges(self, predictions: HeadOutput, points: Tensor) -> Tensor:
        return at_locations(level_sizes(predictions.logits), self.base_edges, points.device)


def _within(image_sizes: Tensor, boxes: Tensor) -> Tensor:
    """Boxes (P, 4) clipped to the pixels' centres of their images, whose (H, W) are (P, 2)."""
    limit = (image_sizes - 1).flip(1).repeat(1, 2)
    return boxes.clamp(min=0).minimum(limit)
