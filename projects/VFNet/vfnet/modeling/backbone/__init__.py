"""ResNets and necks; each module registers its builder when it is imported, which is here."""

from . import pafpn, res2net, resnet

__all__ = ["pafpn", "res2net", "resnet"]
