"""How the weights are stepped, and at which rates."""

from .cyclic import CyclicCosineParamScheduler, build_lr_scheduler
from .optimizer import build_optimizer, parameter_groups

__all__ = [
    "CyclicCosineParamScheduler",
    "build_lr_scheduler",
    "build_optimizer",
    "parameter_groups",
]
