"""The head of RepPoints (https://arxiv.org/abs/1904.11490), shared by all pyramid levels."""

from typing import Any, NamedTuple

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import UserError
from ...layers.star_conv import StarDeformConv, point_offsets, scale_gradient, star_samples
from .towers import TwoTowerHead, conv_norm_relu


class HeadOutput(NamedTuple):
    """What the head predicts, a tensor for each level.

    logits: (N, K, H, W), one score a class, before the sigmoid.
    points: (N, 18, H, W) float32, (dy, dx) of nine points from the location, in cells.
    refined_points: as `points`, moved by what was read at them.
    log_scales: (2,), of all levels: see `points_to_boxes`.
    """

    logits: list[Tensor]
    points: list[Tensor]
    refined_points: list[Tensor]
    log_scales: Tensor


class RepPointsHead(TwoTowerHead):
    """Two towers, points, and at these points the features of scores and of refined points."""

    @configurable
    def __init__(
        self,
        *,
        num_classes: int,
        prior_prob: float,
        num_points: int,
        point_channels: int,
        points_gradient_scale: float,
        moment_gradient_scale: float,
        transform: str,
        **towers: Any,
    ):
        """
        Args:
            prior_prob: foreground probability that the class layer's bias starts from.
            num_points: 9, the taps of the convolutions that read at them.
            point_channels: of the layers that predict from points, and predict points.
            points_gradient_scale: share of the gradient through the points read at.
            moment_gradient_scale: share of the gradient that `log_scales` learns by.
            transform: from points to boxes: "moment".
            towers: see `TwoTowerHead`.
        """
        if num_points != 9:
            raise UserError(
                f"MODEL.REPPOINTS.NUM_POINTS must be 9, the taps of a 3x3 kernel; got {num_points}"
            )
        if transform != "moment":
            raise UserError(
                f"MODEL.REPPOINTS.TRANSFORM must be 'moment', got {transform!r}; this project "
                "does not have the paper's other forms"
            )
        super().__init__(**towers)
        self.points_gradient_scale = points_gradient_scale
        self.moment_gradient_scale = moment_gradient_scale
        self.points_conv = conv_norm_relu(self.tower_channels, point_channels, norm="")
        self.points_pred = nn.Conv2d(point_channels, 2 * num_points, 1)
        at_points = (self.tower_channels, point_channels)
        self.cls_points_conv = StarDeformConv(*at_points, activation=F.relu)
        self.cls_pred = nn.Conv2d(point_channels, num_classes, 1)
        self.refined_points_conv = StarDeformConv(*at_points, activation=F.relu)
        self.refined_points_pred = nn.Conv2d(point_channels, 2 * num_points, 1)
        self.moment_transfer = nn.Parameter(torch.zeros(2))  # of width and height
        self.init_layers(prior_prob)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict[str, Any]:
        reppoints = cfg.MODEL.REPPOINTS
        return {
            **super().from_config(cfg, input_shape),
            "num_points": reppoints.NUM_POINTS,
            "point_channels": reppoints.POINT_CHANNELS,
            "points_gradient_scale": reppoints.POINTS_GRADIENT_SCALE,
            "moment_gradient_scale": reppoints.MOMENT_GRADIENT_SCALE,
            "transform": reppoints.TRANSFORM,
        }

    def forward(self, features: list[Tensor]) -> HeadOutput:
        """Predict from the levels' features, (N, C, H, W) each."""
        log_scales = scale_gradient(self.moment_transfer, self.moment_gradient_scale)
        output = HeadOutput([], [], [], log_scales)
        for feature in features:
            cls_feature, box_feature = self.towers(feature)
            points = self.points_pred(self.points_conv(box_feature)).float()
            offset = point_offsets(points, self.points_gradient_scale)
            # Both convolutions of a level read at the same points.
            samples = star_samples(feature, offset)
            cls_feature = self.cls_points_conv(cls_feature, offset, samples)
            box_feature = self.refined_points_conv(box_feature, offset, samples)
            movement = self.refined_points_pred(box_feature).float()
            output.logits.append(self.cls_pred(cls_feature))
            output.points.append(points)
            output.refined_points.append(points.detach() + movement)
        return output
