"""The configs of the repository, by what they are, and the rows of published_models.csv."""

import re
from pathlib import Path

from detectron2.config import CfgNode

from vfnet import get_cfg
from vfnet.model_zoo.published import all_rows

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
ALL = sorted(path.relative_to(CONFIGS).as_posix() for path in CONFIGS.rglob("*.yaml"))
# Files of single keys that win over a config, and no configs themselves.
OVERRIDES = [name for name in ALL if name.startswith("override/")]
CONFIGURED = [name for name in ALL if name not in OVERRIDES]
# What trains or evaluates a model of another folder, is small for the demo, or was never trained.
_USES = ("check/", "demo/", "override/", "swa/", "timm/", "tta/")
_TEMPLATES = ("Base-", "own_data")
MODELS = [
    name
    for name in ALL
    if not name.startswith(_USES) and not Path(name).name.startswith(_TEMPLATES)
]
ROWS = {row.config: row for row in all_rows()}


def stem(name: str) -> str:
    """The name that a config has in published_models.csv and behind vfnet://."""
    return Path(name).stem


def load(name: str) -> CfgNode:
    """The config of a path relative to configs/, with all defaults."""
    cfg = get_cfg()
    cfg.merge_from_file(str(CONFIGS / name))
    return cfg


# By a word of the file's name; no word of these: VFNet.
DETECTORS = {
    "atss": "ATSS",
    "gfl": "GFL",
    "gflv2": "GFL",
    "retinanet": "QualityRetinaNet",
    "foveabox": "FoveaBox",
    "reppoints": "RepPoints",
    "rcnn": "GeneralizedRCNN",
}


def detector_of(name: str) -> str:
    """The meta-architecture that a config's name promises."""
    words = re.split("[_-]", stem(name).lower())
    return next((DETECTORS[word] for word in words if word in DETECTORS), "VFNet")
