"""Large pictures, looked at slice by slice with SAHI, which is the extra `sahi`.

sahi_slices.py, the only file that imports SAHI, cuts and merges. sahi_model.py stands above
`vfnet.predictor`: what SAHI loads by itself.
"""

from .detector import DetectorWithSlices, SlicedDetector
from .options import Slicing, require_sahi, slicing_of

__all__ = ["DetectorWithSlices", "SlicedDetector", "Slicing", "require_sahi", "slicing_of"]
