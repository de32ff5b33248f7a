"""Large pictures, looked at slice by slice with SAHI, which is the extra `sahi`.

sahi_model.py, the only file that imports SAHI, has its `DetectionModel`.
"""

from .detector import DetectorWithSlices, SlicedDetector
from .options import Slicing, require_sahi, slicing_of

__all__ = ["DetectorWithSlices", "SlicedDetector", "Slicing", "require_sahi", "slicing_of"]
