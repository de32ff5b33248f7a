"""The config keys that this project adds to Detectron2's, read from the code that adds them.

A key's description is the comment above the statement that first assigns it, or behind it.
"""

import ast
import inspect
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple
from unittest import mock

from detectron2.config import CfgNode
from detectron2.config import get_cfg as get_detectron2_cfg

from vfnet.config import add_vfnet_config
from vfnet.errors import UserError


class Key(NamedTuple):
    """A config key by its full name, such as "SOLVER.EMA.DECAY"; a node has no default."""

    name: str
    default: Any
    description: str
    is_node: bool = False


class Place(NamedTuple):
    """Where a key is assigned."""

    file: str
    line: int


def added_keys(add: Callable[[CfgNode], None] = add_vfnet_config) -> list[Key]:
    """The keys and nodes that `add` adds to Detectron2's config, in the order of the config.

    Raises:
        UserError: keys without a description, all of them named.
    """
    cfg, existing = get_detectron2_cfg(), dict(_walk(get_detectron2_cfg()))
    places: dict[tuple[int, str], Place] = {}
    assign = CfgNode.__setattr__

    def record(node: CfgNode, key: str, value: Any) -> None:
        frame = inspect.currentframe()
        assert isinstance(frame, FrameType) and frame.f_back is not None
        caller = frame.f_back
        # Of several, the first one describes it: others give a detector's own default.
        places.setdefault((id(node), key), Place(caller.f_code.co_filename, caller.f_lineno))
        assign(node, key, value)

    with mock.patch.object(CfgNode, "__setattr__", record):
        add(cfg)
    keys, bare = [], []
    for name, value in _walk(cfg):
        if name in existing:
            continue
        is_node = isinstance(value, CfgNode)
        place = places.get((id(_parent(cfg, name)), name.rpartition(".")[2]))
        description = _description(place) if place else ""
        if not description and not is_node:
            bare.append(f"{name} ({Path(place.file).name}:{place.line})" if place else name)
        keys.append(Key(name, None if is_node else value, description, is_node))
    if bare:
        raise UserError(
            f"{len(bare)} config keys have no description: {', '.join(bare)}; write a comment "
            "above the statement that adds a key, or behind it"
        )
    return keys


def _walk(node: CfgNode, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All nodes and keys by full name, a node before what it holds."""
    for name, value in node.items():
        yield prefix + name, value
        if isinstance(value, CfgNode):
            yield from _walk(value, f"{prefix}{name}.")


def differing_keys(base: CfgNode, other: CfgNode) -> dict[str, tuple[Any, Any]]:
    """The keys of both configs whose values differ -> the values, by full name."""
    values = dict(_walk(base))
    return {
        name: (values[name], value)
        for name, value in _walk(other)
        if name in values and not isinstance(value, CfgNode) and values[name] != value
    }


def _parent(cfg: CfgNode, name: str) -> CfgNode:
    node = cfg
    for part in name.split(".")[:-1]:
        node = node[part]
    return node


def _description(place: Place) -> str:
    """The comment right above the statement at a place, else the one behind it; "" for none."""
    lines, statements = _source(place.file)
    start, end, column = statements.get(place.line, (place.line, place.line, sys.maxsize))
    above: list[str] = []
    for line in reversed(lines[: start - 1]):
        if not line.strip().startswith("#"):
            break
        above.insert(0, line.strip().lstrip("#").strip())
    behind = lines[end - 1][column:].strip()
    return " ".join(above) or (behind.lstrip("#").strip() if behind.startswith("#") else "")


@cache
def _source(file: str) -> tuple[list[str], dict[int, tuple[int, int, int]]]:
    """Lines of a file; and by line number, which lines its assignment has, and where it ends."""
    text = Path(file).read_text(encoding="utf-8")
    statements = {
        line: (node.lineno, node.end_lineno or node.lineno, node.end_col_offset or 0)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Assign)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    return text.splitlines(), statements
