"""The detectors, and what they are composed of."""

from ..layers.deform_conv import AnyDeviceDeformConv, AnyDeviceDeformConvV1, DeformConvWithOffset
from ..layers.star_conv import StarDeformConv, star_offsets
from . import backbone, proposal_generator, roi_heads
from .backbone.bfp import BalancedFeaturePyramid
from .heads.vfnet import VFNetHead
from .losses.box import balanced_l1_loss
from .losses.classification import focal_loss, quality_focal_loss, varifocal_loss
from .losses.distribution import distribution_focal_loss
from .matching.atss import atss_match
from .meta_arch.atss import ATSS
from .meta_arch.foveabox import FoveaBox
from .meta_arch.gfl import GFL
from .meta_arch.reppoints import RepPoints
from .meta_arch.retinanet import QualityRetinaNet
from .meta_arch.vfnet import VFNet

__all__ = [
    "ATSS",
    "GFL",
    "AnyDeviceDeformConv",
    "AnyDeviceDeformConvV1",
    "BalancedFeaturePyramid",
    "DeformConvWithOffset",
    "FoveaBox",
    "QualityRetinaNet",
    "RepPoints",
    "StarDeformConv",
    "VFNet",
    "VFNetHead",
    "atss_match",
    "backbone",
    "balanced_l1_loss",
    "distribution_focal_loss",
    "focal_loss",
    "proposal_generator",
    "quality_focal_loss",
    "roi_heads",
    "star_offsets",
    "varifocal_loss",
]
