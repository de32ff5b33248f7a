"""Backbones and necks; each module registers its builder when it is imported, which is here."""

from . import bfp, pafpn, res2net, resnet, timm_backbone

__all__ = ["bfp", "pafpn", "res2net", "resnet", "timm_backbone"]
