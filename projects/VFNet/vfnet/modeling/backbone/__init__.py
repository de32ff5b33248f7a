from .resnet import build_vfnet_resnet_fpn_backbone

__all__ = ["build_vfnet_resnet_fpn_backbone"]
