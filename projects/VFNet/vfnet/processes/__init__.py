"""How a program runs: where it is started, how it is told to end, and what it says of its end.

Nothing of detectors or of training is imported here.
"""

from .device import choose_device
from .launch import group_timeout, launch
from .reporting import report_errors

__all__ = ["choose_device", "group_timeout", "launch", "report_errors"]
