"""How the weights are stepped."""

from .optimizer import build_optimizer, parameter_groups

__all__ = ["build_optimizer", "parameter_groups"]
