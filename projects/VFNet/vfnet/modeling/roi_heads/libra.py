"""The second stage of Libra R-CNN: balanced sampling and balanced L1 loss."""

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_HEADS_REGISTRY, StandardROIHeads
from detectron2.modeling.matcher import Matcher
from torch import Tensor

from ...errors import UserError
from ..matching.libra_sampling import sample_negatives, sample_positives
from .box_predictor import BalancedL1OutputLayers


@ROI_HEADS_REGISTRY.register()
class LibraROIHeads(StandardROIHeads):
    """Detectron2's `StandardROIHeads` with Libra R-CNN's sampler and loss, each by a key.

    A box head that learns by balanced L1 loss has `ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE "balanced_l1"`.
    """

    # mmdet's sampler of negatives has a state, which a continued run needs: it is in checkpoints,
    # and a checkpoint without it, of mmdet or of other heads, leaves it as it is. Each process has
    # its own, the first one's is written: all switch in the first steps.
    floor_at_zero: Tensor

    @configurable
    def __init__(
        self,
        *,
        sampler: str = "random",
        sampler_bins: int = 3,
        sampler_floor_switch: bool = True,
        **detectron2: Any,
    ):
        """
        Args:
            sampler: "random", Detectron2's; "libra", see `sample_negatives`, `sample_positives`.
            sampler_bins: how many ranges of IoU negatives are drawn from.
            sampler_floor_switch: after the first image that has more negatives than are drawn,
                those of IoU 0 are drawn only where others are lacking, as in mmdet. False: every
                image as the first, which is what the paper says.
            detectron2: see `StandardROIHeads`.

        Raises:
            UserError: another sampler, or no range.
        """
        super().__init__(**detectron2)
        if sampler not in ("random", "libra"):
            raise UserError(f"MODEL.ROI_HEADS.SAMPLER must be 'random' or 'libra', got {sampler!r}")
        if sampler_bins < 1:
            raise UserError(f"MODEL.ROI_HEADS.SAMPLER_BINS must be 1 or more, got {sampler_bins}")
        self.sampler = sampler
        self.sampler_bins = sampler_bins
        self.sampler_floor_switch = sampler_floor_switch
        self.proposal_matcher = _RememberingMatcher(self.proposal_matcher)
        self.register_buffer("floor_at_zero", torch.zeros((), dtype=torch.bool))

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        node = cfg.MODEL.ROI_HEADS
        return {
            **super().from_config(cfg, input_shape),
            "sampler": node.SAMPLER,
            "sampler_bins": node.SAMPLER_BINS,
            "sampler_floor_switch": node.SAMPLER_FLOOR_SWITCH,
        }

    @classmethod
    def _init_box_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        parts = super()._init_box_head(cfg, input_shape)
        if cfg.MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE == "balanced_l1":
            parts["box_predictor"] = BalancedL1OutputLayers(cfg, parts["box_head"].output_shape)
        return parts

    def _sample_proposals(
        self, matched_idxs: Tensor, matched_labels: Tensor, gt_classes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As Detectron2's, which calls it for each image after `proposal_matcher`."""
        if self.sampler == "random":
            return super()._sample_proposals(matched_idxs, matched_labels, gt_classes)
        positive = (matched_labels == 1).nonzero().squeeze(1)
        negative = (matched_labels == 0).nonzero().squeeze(1)
        most_positives = int(self.batch_size_per_image * self.positive_fraction)
        positive = positive[sample_positives(matched_idxs[positive], most_positives)]
        sampled = torch.cat((positive, self._negatives(negative, len(positive))))
        classes = torch.full_like(sampled, self.num_classes)
        classes[: len(positive)] = gt_classes[matched_idxs[positive]]
        return sampled, classes

    def _negatives(self, negative: Tensor, num_positives: int) -> Tensor:
        """Those that are drawn beside so many positives."""
        count = self.batch_size_per_image - num_positives
        ious = self.proposal_matcher.highest_ious
        drawn = sample_negatives(
            ious[negative], ious.amax(), count, self.floor_at_zero, self.sampler_bins
        )
        if self.sampler_floor_switch and len(negative) > count:
            self.floor_at_zero.fill_(True)
        return negative[drawn]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        state_dict.setdefault(f"{prefix}floor_at_zero", self.floor_at_zero)
        super()._load_from_state_dict(state_dict, prefix, *rest)


class _RememberingMatcher:
    """A matcher of RoIs that keeps their IoUs: Detectron2 hands the sampler no more than labels."""

    def __init__(self, matcher: Matcher):
        self.matcher = matcher
        self.highest_ious: Tensor  # (R,), of each RoI of the last image with any ground truth

    def __call__(self, ious: Tensor) -> tuple[Tensor, Tensor]:
        """(M, R) IoUs -> as `Matcher`."""
        # Without a ground truth there is no maximum.
        self.highest_ious = ious.amax(dim=0) if len(ious) else ious.new_zeros(ious.shape[1])
        return self.matcher(ious)
