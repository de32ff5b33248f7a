"""Second stages of Faster R-CNN; each module registers its class when it is imported, here."""

from .libra import LibraROIHeads

__all__ = ["LibraROIHeads"]
