"""How the weights are stepped, and at which rates."""

from .cyclic import build_lr_scheduler
from .optimizer import build_optimizer, check_continuable, parameter_groups, solver_values

__all__ = [
    "build_lr_scheduler",
    "build_optimizer",
    "check_continuable",
    "parameter_groups",
    "solver_values",
]
