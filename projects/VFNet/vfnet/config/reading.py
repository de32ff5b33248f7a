"""A config from a file and from the command line, with errors that a user can act on."""

import difflib
import re
from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.utils.file_io import PathManager

from ..errors import UserError
from ..utils.pixel_limit import limit_pixels
from .keys import get_cfg, leaves
from .values import check_values

# What yacs raises; the last two where it takes a value for an expression nested without end.
_MERGE_ERRORS = (
    *(ArithmeticError, AssertionError, AttributeError, KeyError, TypeError, ValueError),
    *(MemoryError, RecursionError),
)


def load_config(
    config_file: str, overrides: Sequence[Any] = (), override_files: Sequence[str] = ()
) -> CfgNode:
    """Return VFNet's defaults, overwritten by yaml files in turn and then by KEY VALUE pairs.

    From then on this process reads pictures of up to INPUT.MAX_PIXELS.

    Args:
        config_file: path of the config.
        overrides: KEY VALUE pairs, one after the other.
        override_files: paths of further configs; a later one wins over an earlier one.

    Raises:
        UserError: a file is missing or no config, a key does not exist (the message names the
            most similar ones), or a value is not of the kind and size that its key takes.
    """
    if not config_file:
        raise UserError(
            "expected a config file, got none; give one with --config-file, "
            "for example configs/vfnet_R50_1x.yaml"
        )
    cfg = get_cfg()
    _merge_file(cfg, config_file, "--config-file")
    for path in override_files:
        _merge_file(cfg, path, "--override")
    merge_overrides(cfg, overrides)
    return cfg


def merge_overrides(cfg: CfgNode, overrides: Sequence[Any]) -> None:
    """Overwrite keys of a config by KEY VALUE pairs, as the command line's: its last step.

    From then on this process reads pictures of up to INPUT.MAX_PIXELS.

    Raises:
        UserError: as `load_config`.
    """
    late = [word for word in overrides if str(word).startswith("--")]
    if late:
        raise UserError(f"{late[0]} stands behind KEY VALUE pairs; options go before them")
    try:
        cfg.merge_from_list(list(overrides))
    except _MERGE_ERRORS as error:
        raise UserError(f"command line: {_explain(error)}") from None
    check_values(cfg)
    limit_pixels(cfg.INPUT.MAX_PIXELS)


def _merge_file(cfg: CfgNode, path: str, option: str) -> None:
    if not PathManager.isfile(path):
        raise UserError(f"config file {path} does not exist; check {option}")
    try:
        cfg.merge_from_file(path)
    except UserError:
        raise
    except _MERGE_ERRORS as error:
        raise UserError(f"config file {path}: {_explain(error)}") from None


def _similar_keys(key: str) -> list[str]:
    """Up to three existing config keys, written out in full, the most similar first."""
    existing = [name for name, _ in leaves(get_cfg())]
    last = key.rpartition(".")[2]
    same_last = [name for name in existing if name.rpartition(".")[2] == last]
    same_last.sort(key=lambda name: -difflib.SequenceMatcher(None, key, name).ratio())
    close = difflib.get_close_matches(key, existing, n=3)
    return list(dict.fromkeys([*same_last, *close]))[:3]


def _explain(error: Exception) -> str:
    """Say in one line what yacs found wrong; for an unknown key, which keys come close."""
    # str() of a KeyError is the text in quotes.
    text = " ".join(str(error.args[0] if isinstance(error, KeyError) else error).split())
    unknown = re.search(r"[Nn]on-existent (?:config )?key: ([^\s'\"]+)", text)
    if unknown is None:
        return text or type(error).__name__
    key = unknown.group(1)
    close = _similar_keys(key)
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    return f"config key {key} does not exist{hint}"
