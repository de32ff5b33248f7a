"""A run: what is refused before it, how it is stepped, scored, stopped and continued.

With the names of `vfnet.config` and `vfnet.processes` that whoever starts one needs.
"""

from ..config import check_values, load_config, merge_overrides
from ..processes import choose_device, group_timeout, launch, report_errors
from .determinism import make_deterministic
from .preflight.run import check_run, config_warnings, datasets_of_run
from .resume import check_not_moved, checkpoint_to_continue
from .run_folder import clean, log_on_full_disks, only_run_in
from .schedule_units import in_iterations, schedule_warnings
from .step import NonFiniteLossError, StepTrainer
from .trainer import Trainer

__all__ = [
    "NonFiniteLossError",
    "StepTrainer",
    "Trainer",
    "check_not_moved",
    "check_run",
    "check_values",
    "checkpoint_to_continue",
    "choose_device",
    "clean",
    "config_warnings",
    "datasets_of_run",
    "group_timeout",
    "in_iterations",
    "launch",
    "load_config",
    "log_on_full_disks",
    "make_deterministic",
    "merge_overrides",
    "only_run_in",
    "report_errors",
    "schedule_warnings",
]
