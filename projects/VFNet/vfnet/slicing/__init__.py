"""Large pictures, looked at slice by slice with SAHI, which is the extra `sahi`.

sahi_slices.py, the only file that imports SAHI, cuts and merges. What SAHI loads by itself is in
`vfnet.sahi_model`, above the predictor.
"""

from .detector import DetectorWithSlices, SlicedDetector
from .options import Slicing, require_sahi, slicing_of

__all__ = ["DetectorWithSlices", "SlicedDetector", "Slicing", "require_sahi", "slicing_of"]
