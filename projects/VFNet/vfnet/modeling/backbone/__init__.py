from .pafpn import PAFPN, build_vfnet_res2net_pafpn_backbone
from .res2net import build_vfnet_res2net_fpn_backbone
from .resnet import build_vfnet_resnet_fpn_backbone

__all__ = [
    "PAFPN",
    "build_vfnet_res2net_fpn_backbone",
    "build_vfnet_res2net_pafpn_backbone",
    "build_vfnet_resnet_fpn_backbone",
]
