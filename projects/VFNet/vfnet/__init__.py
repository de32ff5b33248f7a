"""VarifocalNet (VFNet) for Detectron2: `import vfnet` registers the model, data and weights."""

import warnings
from importlib.util import find_spec

if find_spec("detectron2") is None:
    raise ModuleNotFoundError(
        "vfnet needs detectron2, which is on no package index. After torch: "
        "pip install --no-build-isolation git+https://github.com/facebookresearch/detectron2.git"
        "@02b5c4e295e990042a714712c21dc79b731e8833"
    )

from .utils.quiet import ignore_known_warnings

# Here for the moment of importing detectron2, with which this package begins; for their whole run
# by `vfnet.processes`. A program that imports detectron2 itself, before, is told as ever.
with warnings.catch_warnings():
    ignore_known_warnings()
    from . import checkpoint, data, model_zoo, modeling
    from .config import add_vfnet_config, get_cfg

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "add_vfnet_config",
    "checkpoint",
    "data",
    "get_cfg",
    "model_zoo",
    "modeling",
]
