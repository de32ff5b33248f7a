"""Detectors whose locations own a square anchor each, by which ATSS assigns boxes to them."""

from functools import partial
from typing import Any

from detectron2.config import CfgNode

from ...config import detector_node
from ..matching.atss import atss_match_batch
from .dense import LocationDetector


class SquareAnchorDetector(LocationDetector):
    """The base of VFNet, ATSS and GFL."""

    def __init__(self, *, anchor_scale: float = 8.0, **shared: Any):
        """`anchor_scale`: side of a location's anchor, in strides; else as `LocationDetector`."""
        super().__init__(**shared)
        self.anchor_scale = anchor_scale

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Everything but `head`."""
        node = detector_node(cfg)
        matcher = partial(
            atss_match_batch,
            topk=node.ATSS_TOPK,
            anchor_scale=node.ANCHOR_SCALE,
            fallback=node.ATSS_FALLBACK,
        )
        return {
            **super().from_config(cfg),
            "matcher": matcher,
            "anchor_scale": node.ANCHOR_SCALE,
        }

    def prior_sides(self) -> list[float]:
        """Those of the anchors."""
        return [self.anchor_scale * stride for stride in self.strides]
