"""VFNet, the detector: features -> losses, or -> Instances (https://arxiv.org/abs/2008.13367)."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, build_backbone
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor, nn

from ..data import publish_class_names
from ..errors import UserError
from ..utils.comm import mean_over_processes
from ..utils.device import to_device
from ..utils.events import put_scalars
from ..utils.precision import autocast_type
from .assignment import grid_points
from .candidates import CandidateRule, Candidates, build_candidate_rule, choose_candidates
from .head import HeadOutput, VFNetHead
from .levels import decode, flatten_levels, level_numbers, level_sizes
from .losses import (
    ClassificationLoss,
    Positives,
    build_classification_loss,
    iou_weighted_giou_loss,
)
from .suppression import Suppression, build_suppression
from .targets import Targets, assign_targets


@META_ARCH_REGISTRY.register()
class VFNet(DenseDetector):
    """VarifocalNet.

    Naming convention: N = images, R = locations of all levels, K = classes, P = positives.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        head: nn.Module,
        head_in_features: list[str],
        pixel_mean: list[float],
        pixel_std: list[float],
        num_classes: int,
        atss_topk: int = 9,
        anchor_scale: float = 8.0,
        classification_loss: ClassificationLoss,
        cls_loss_weight: float = 1.0,
        box_loss_weight: float = 1.5,
        refined_box_loss_weight: float = 2.0,
        candidate_rule: CandidateRule,
        suppression: Suppression,
        autocast_test: torch.dtype | None = None,
    ):
        """
        Args:
            backbone, head_in_features, pixel_mean, pixel_std: as in `DenseDetector`.
            head: features -> `HeadOutput`.
            num_classes: K.

            # Assignment and loss parameters:
            atss_topk, anchor_scale: see `atss_match`.
            classification_loss: see `build_classification_loss`.
            cls_loss_weight, box_loss_weight, refined_box_loss_weight: factors of the three losses.

            # Inference parameters:
            candidate_rule: see `build_candidate_rule`.
            suppression: see `build_suppression`.
            autocast_test: what autocast computes in; None: whatever is on.
        """
        super().__init__(
            backbone, head, head_in_features, pixel_mean=pixel_mean, pixel_std=pixel_std
        )
        shapes = backbone.output_shape()
        self.strides = [shapes[name].stride for name in head_in_features]
        self.num_classes = num_classes
        self.atss_topk = atss_topk
        self.anchor_scale = anchor_scale
        self.classification_loss = classification_loss
        self.cls_loss_weight = cls_loss_weight
        self.box_loss_weight = box_loss_weight
        self.refined_box_loss_weight = refined_box_loss_weight
        self.candidate_rule = candidate_rule
        self.suppression = suppression
        self.autocast_test = autocast_test

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        vfnet = cfg.MODEL.VFNET
        if vfnet.CLASS_NAMES and len(vfnet.CLASS_NAMES) != vfnet.NUM_CLASSES:
            raise UserError(
                f"MODEL.VFNET.NUM_CLASSES is {vfnet.NUM_CLASSES}, but CLASS_NAMES has "
                f"{len(vfnet.CLASS_NAMES)} names. Set NUM_CLASSES to their number."
            )
        publish_class_names(cfg)
        backbone = build_backbone(cfg)
        shapes = backbone.output_shape()
        return {
            "backbone": backbone,
            "head": VFNetHead(cfg, [shapes[name] for name in vfnet.IN_FEATURES]),
            "head_in_features": vfnet.IN_FEATURES,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "num_classes": vfnet.NUM_CLASSES,
            # Assignment and loss parameters:
            "atss_topk": vfnet.ATSS_TOPK,
            "anchor_scale": vfnet.ANCHOR_SCALE,
            "classification_loss": build_classification_loss(
                vfnet.CLS_LOSS,
                vfnet.VARIFOCAL_ALPHA,
                vfnet.VARIFOCAL_GAMMA,
                vfnet.VARIFOCAL_IOU_WEIGHTED,
            ),
            "cls_loss_weight": vfnet.CLS_LOSS_WEIGHT,
            "box_loss_weight": vfnet.BOX_LOSS_WEIGHT,
            "refined_box_loss_weight": vfnet.REFINED_BOX_LOSS_WEIGHT,
            # Inference parameters:
            "candidate_rule": build_candidate_rule(
                vfnet.CANDIDATE_TEST, vfnet.SCORE_THRESH_TEST, vfnet.TOPK_CANDIDATES_TEST
            ),
            "suppression": build_suppression(
                vfnet.NMS_TYPE,
                vfnet.NMS_THRESH_TEST,
                cfg.TEST.DETECTIONS_PER_IMAGE,
                vfnet.SOFT_NMS_SIGMA,
                vfnet.SOFT_NMS_MIN_SCORE,
            ),
            "autocast_test": autocast_type(
                "MODEL.VFNET.PRECISION_TEST",
                vfnet.PRECISION_TEST,
                torch.device(cfg.MODEL.DEVICE).type,
            ),
        }

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """Losses of a batch in training, else its detections: see `DenseDetector.forward`."""
        if not self.training:
            with self._autocast():
                return super().forward(batched_inputs)
        assert "instances" in batched_inputs[0], "training needs the ground truth: instances"
        images, features, predictions = self.predict(batched_inputs)
        # Where the loader left it: it is assigned on the host while a GPU still predicts.
        gt_instances = [item["instances"] for item in batched_inputs]
        return self.forward_training(images, features, predictions, gt_instances)

    def predict(
        self, batched_inputs: list[dict[str, Any]]
    ) -> tuple[ImageList, list[Tensor], HeadOutput]:
        """The network alone -> the batch's images, the head's features and its predictions."""
        with self._autocast():
            images = self.preprocess_image(batched_inputs)
            pyramid = self.backbone(images.tensor)
            features = [pyramid[name] for name in self.head_in_features]
            return images, features, self.head(features)

    def _autocast(self) -> AbstractContextManager:
        if self.training or self.autocast_test is None:
            return nullcontext()
        return torch.autocast(self.device.type, self.autocast_test)

    def _move_to_current_device(self, x: Tensor) -> Tensor:
        # Detectron2's copy, which exporters know, makes the host wait.
        return to_device(x, self.device) if self.training else super()._move_to_current_device(x)

    def forward_training(
        self,
        images: ImageList,
        features: list[Tensor],
        predictions: HeadOutput,
        gt_instances: list[Instances],
    ) -> dict[str, Tensor]:
        """Losses of a batch, weighted: `loss_cls`, `loss_box_init`, `loss_box_refined`."""
        targets = self.assign(images, features, gt_instances)
        with torch.autocast(self.device.type, enabled=False):
            return self.losses(predictions, self.points(features), targets)

    def assign(
        self, images: ImageList, features: list[Tensor], gt_instances: list[Instances]
    ) -> Targets:
        """What each location of the batch learns; found where the ground truth is."""
        targets = assign_targets(
            gt_instances,
            images.image_sizes,
            level_sizes(features),
            self.strides,
            self.backbone.size_divisibility,
            self.atss_topk,
            self.anchor_scale,
        )
        return targets.to(self.device)

    def points(self, features: list[Tensor]) -> Tensor:
        """Where the locations of all levels stand -> (R, 2), x and y in pixels."""
        return grid_points(level_sizes(features), self.strides, self.device)

    def losses(
        self, predictions: HeadOutput, points: Tensor, targets: Targets
    ) -> dict[str, Tensor]:
        """Compare predictions with targets.

        Args:
            predictions: of N images.
            points: (R, 2), where the locations stand, in pixels.
            targets: of N images.
        """
        positive_points = points[targets.index % len(points)]  # (P, 2)

        def box_loss(distances: list[Tensor]) -> tuple[Tensor, Tensor]:
            positive = flatten_levels(distances)[targets.index]  # (P, 4)
            return iou_weighted_giou_loss(decode(positive_points, positive), targets.boxes)

        box_losses = {"loss_box_init": box_loss(predictions.distances)}
        if predictions.refined_distances:
            box_losses["loss_box_refined"] = box_loss(predictions.refined_distances)
        ious = [iou for _, iou in box_losses.values()]  # the last one is the detections'

        logits = flatten_levels(predictions.logits)  # (N R, K)
        positives = Positives(targets.index, targets.classes, ious[-1])
        loss_cls = self.classification_loss(logits, positives, targets.valid)

        # One reduction for all normalisers, on every process and whatever it holds: inside a branch
        # that depends on the data, the processes would wait for each other for ever.
        num_positive = ious[-1].new_full((), len(targets.index))
        # A NaN stays in its own process's loss: spread by the sum, it would blame every image.
        sums = [iou.sum().nan_to_num() for iou in ious]
        totals = mean_over_processes(torch.stack([num_positive, *sums]))
        normalisers = totals.clamp(min=1.0)
        names = ("num_pos", "gts_without_positive", "mean_iou_initial", "mean_iou_refined")
        values = (totals[0], targets.gts_without_positive, *(totals[1:] / normalisers[0]))
        put_scalars({f"vfnet/{name}": value for name, value in zip(names, values)})

        weights = (self.box_loss_weight, self.refined_box_loss_weight)
        losses = {"loss_cls": loss_cls * self.cls_loss_weight / normalisers[0]}
        for (name, (loss, _)), weight, normaliser in zip(
            box_losses.items(), weights, normalisers[1:]
        ):
            losses[name] = loss * weight / normaliser
        return losses

    def forward_inference(
        self, images: ImageList, features: list[Tensor], predictions: HeadOutput
    ) -> list[Instances]:
        """Detections of each image, in pixels of the resized image, best first."""
        candidates = self.candidates(images, features, predictions)
        return [self.suppress(*pair) for pair in zip(candidates, images.image_sizes)]

    def candidates(
        self, images: ImageList, features: list[Tensor], predictions: HeadOutput
    ) -> list[Candidates]:
        """What suppression chooses from, of each image, in pixels of the resized image."""
        distances = predictions.refined_distances or predictions.distances
        return choose_candidates(
            flatten_levels(predictions.logits).float().sigmoid(),
            flatten_levels(distances),
            self.points(features),
            level_numbers(level_sizes(features), self.device),
            images.image_sizes,
            self.candidate_rule,
        )

    def suppress(self, candidates: Candidates, image_size: tuple[int, int]) -> Instances:
        """From the candidates of an image of this (H, W) to its detections, best first."""
        kept, scores = self.suppression(*candidates)
        return Instances(
            image_size,
            pred_boxes=Boxes(candidates.boxes[kept]),
            scores=scores,
            pred_classes=candidates.classes[kept],
        )
