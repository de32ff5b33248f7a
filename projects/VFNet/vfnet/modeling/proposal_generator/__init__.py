"""First stages of Faster R-CNN; each module registers its class when it is imported, here."""

from .bounded_rpn import BoundedRPN

__all__ = ["BoundedRPN"]
