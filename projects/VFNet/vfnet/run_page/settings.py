"""Which keys of a run's config differ from what they would be without it."""

import re
from pathlib import Path
from typing import Any, NamedTuple

from detectron2.config import CfgNode

from ..config import get_cfg, leaves
from ..model_zoo import config_files, get_config, get_config_file


class Difference(NamedTuple):
    """A key, its value in the run, and its value in what the run is compared with."""

    key: str
    value: str
    other: str


class Settings(NamedTuple):
    """own: what differs from the base that is named. base: what that changes of the defaults."""

    base_name: str
    own: list[Difference]
    base: list[Difference]


def settings_of(cfg: CfgNode) -> Settings:
    """Compare a config with the base of its detector's family, and that with the defaults."""
    defaults = get_cfg()
    name = _base_of(cfg.MODEL.META_ARCHITECTURE)
    base = get_config(name) if name else defaults
    return Settings(name or "the defaults", differences(cfg, base), differences(base, defaults))


def differences(cfg: CfgNode, other: CfgNode) -> list[Difference]:
    """The keys of `cfg` that `other` lacks or has with another value, in alphabetical order."""
    ours, theirs = dict(leaves(cfg)), dict(leaves(other))
    return [
        Difference(key, repr(value), repr(theirs[key]) if key in theirs else "no such key")
        for key, value in sorted(ours.items())
        if key not in theirs or _plain(theirs[key]) != _plain(value)
    ]


def _base_of(architecture: str) -> str:
    """The base config of a family, the one nearest the root of configs/; "" for none."""
    named = re.compile(rf"^  META_ARCHITECTURE: \W?{re.escape(architecture)}\W?$", re.M)
    bases = [file for file in config_files() if Path(file).name.startswith("Base-")]
    found = [f for f in bases if named.search(Path(get_config_file(f)).read_text("utf-8"))]
    return min(found, key=lambda file: (file.count("/"), file), default="")


def _plain(value: Any) -> Any:
    """Lists and tuples alike: a dumped config has lists where a file's has tuples."""
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
