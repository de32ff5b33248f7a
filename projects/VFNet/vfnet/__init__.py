"""VarifocalNet (VFNet) for Detectron2: `import vfnet` registers the model, data and weights."""

from . import checkpoint, data, modeling
from .config import add_vfnet_config, get_cfg

__version__ = "0.1.0"

__all__ = ["__version__", "add_vfnet_config", "checkpoint", "data", "get_cfg", "modeling"]
