"""How a run is started, stepped, stopped and continued."""

from .configuration import load_config
from .launch import choose_device, launch, report_errors
from .preflight import (
    agree,
    check_run,
    checkpoint_to_continue,
    config_warnings,
    datasets_of_run,
)
from .step import NonFiniteLossError, StepTrainer
from .trainer import Trainer

__all__ = [
    "NonFiniteLossError",
    "StepTrainer",
    "Trainer",
    "agree",
    "check_run",
    "checkpoint_to_continue",
    "choose_device",
    "config_warnings",
    "datasets_of_run",
    "launch",
    "load_config",
    "report_errors",
]
