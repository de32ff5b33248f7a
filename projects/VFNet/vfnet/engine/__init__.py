"""How a run is started, stepped, stopped and continued."""

from .configuration import load_config, merge_overrides
from .launch import choose_device, launch, report_errors
from .preflight import check_run, config_warnings, datasets_of_run
from .resume import checkpoint_to_continue
from .step import NonFiniteLossError, StepTrainer
from .trainer import Trainer

__all__ = [
    "NonFiniteLossError",
    "StepTrainer",
    "Trainer",
    "check_run",
    "checkpoint_to_continue",
    "choose_device",
    "config_warnings",
    "datasets_of_run",
    "launch",
    "load_config",
    "merge_overrides",
    "report_errors",
]
