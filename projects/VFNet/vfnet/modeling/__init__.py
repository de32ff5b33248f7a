from . import backbone
from .assignment import atss_match
from .deform_conv import AnyDeviceDeformConv, DeformConvWithOffset
from .head import VFNetHead
from .losses import focal_loss, quality_focal_loss, varifocal_loss
from .star_deform_conv import StarDeformConv, star_offsets
from .vfnet import VFNet

__all__ = [
    "AnyDeviceDeformConv",
    "DeformConvWithOffset",
    "StarDeformConv",
    "VFNet",
    "VFNetHead",
    "atss_match",
    "backbone",
    "focal_loss",
    "quality_focal_loss",
    "star_offsets",
    "varifocal_loss",
]
