"""Sphinx extension: the tables of docs/keys.md, in the place of their marker."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config_keys import Key, added_keys, differing_keys
from detectron2.config import CfgNode
from detectron2.config import get_cfg as get_detectron2_cfg

from vfnet import get_cfg
from vfnet.errors import UserError

if TYPE_CHECKING:  # the tables alone need no Sphinx
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]
MARKER = "<!-- keys -->"
# The detectors whose nodes are a `dense_node`, which share their first keys.
DENSE = ("VFNET", "ATSS", "GFL", "FOVEABOX", "REPPOINTS")


def key_tables() -> str:
    """All tables, in markdown.

    Raises:
        UserError: keys without a description.
    """
    keys = added_keys()
    return "\n\n".join([_dense_section(keys), *_node_sections(keys), *_detectron2_sections()])


def _dense_section(keys: Sequence[Key]) -> str:
    nodes = [_under(keys, f"MODEL.{name}") for name in DENSE]
    rows = []
    for name, key in nodes[0].items():
        if not all(name in node for node in nodes):
            continue
        others = [
            f"{detector}: {_code(node[name].default)}"
            for detector, node in zip(DENSE, nodes)
            if node[name].default != nodes[1][name].default
        ]
        default = "<br>".join([_code(nodes[1][name].default), *others])
        rows.append((f"`{name}`", default, _text(key.description)))
    names = ", ".join(f"`MODEL.{name}`" for name in DENSE)
    return (
        f"## Every dense detector\n\n{names} have these keys, each its own.\n\n"
        f"{_table(('key', 'default', 'description'), rows)}"
    )


def _node_sections(keys: Sequence[Key]) -> list[str]:
    """A section for each node, the detectors' first, without what all dense detectors have."""
    shared = set.intersection(*(set(_under(keys, f"MODEL.{name}")) for name in DENSE))
    parents: dict[str, list[Key]] = {}
    for key in keys:
        node, _, name = key.name.rpartition(".")
        is_shared = name in shared and node.removeprefix("MODEL.") in DENSE
        if not key.is_node and not is_shared:
            parents.setdefault(node, []).append(key)
    about = {key.name: key.description for key in keys if key.is_node}
    sections = []
    for node, own in sorted(parents.items(), key=lambda item: not _is_dense(item[0])):
        rows = [
            (f"`{key.name.rpartition('.')[2]}`", _code(key.default), _text(key.description))
            for key in own
        ]
        text = _text(about.get(node, ""))
        sections.append(f"## {node}\n\n{text}\n\n{_table(('key', 'default', 'description'), rows)}")
    return sections


def _is_dense(node: str) -> bool:
    return node.startswith("MODEL.") and node.split(".")[1] in DENSE


def _detectron2_sections() -> list[str]:
    """Detectron2's keys that have other values here: in the config, and in each base."""
    detectron2 = get_detectron2_cfg()
    differing = differing_keys(detectron2, get_cfg())
    sections = [
        "## Detectron2's keys with another default\n\n"
        + _table(
            ("key", "Detectron2", "here"),
            [(f"`{name}`", _code(a), _code(b)) for name, (a, b) in differing.items()],
        )
    ]
    dense = _load("Base-Dense.yaml")
    sections.append(_base_section("Base-Dense.yaml", get_cfg(), dense))
    for path in sorted((ROOT / "configs").rglob("Base-*.yaml")):
        name = path.relative_to(ROOT / "configs").as_posix()
        if name != "Base-Dense.yaml" and not name.startswith("demo/"):
            sections.append(_base_section(name, dense, _load(name)))
    return sections


def _base_section(name: str, before: CfgNode, after: CfgNode) -> str:
    rows = [
        (f"`{key}`", _code(a), _code(b)) for key, (a, b) in differing_keys(before, after).items()
    ]
    default = "default" if name == "Base-Dense.yaml" else "Base-Dense.yaml"
    return f"## What {name} sets\n\n{_table(('key', default, name), rows)}"


def _load(name: str) -> CfgNode:
    cfg = get_cfg()
    cfg.merge_from_file(str(ROOT / "configs" / name))
    return cfg


def _under(keys: Iterable[Key], node: str) -> Mapping[str, Key]:
    """The keys of a node itself, by their last name."""
    prefix = f"{node}."
    return {
        key.name.removeprefix(prefix): key
        for key in keys
        if key.name.startswith(prefix) and "." not in key.name.removeprefix(prefix)
        if not key.is_node
    }


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _code(value: Any) -> str:
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return f"`{text}`".replace("|", "\\|")


def _text(comment: str) -> str:
    escaped = re.sub(r"([*<>|\\\[\]])", r"\\\1", comment)
    escaped = re.sub(r"\b[A-Z][A-Z0-9]*(?:[._][A-Z0-9_]+)+\b", r"`\g<0>`", escaped)
    return re.sub(r"https?://[^\s()]+[^\s().,;]", r"<\g<0>>", escaped)


def _fill_in(app: Sphinx, docname: str, source: list[str]) -> None:
    if MARKER not in source[0]:
        return
    try:
        source[0] = source[0].replace(MARKER, key_tables())
    except UserError as error:
        # A warning fails `make docs`, in one line; an error would come with Sphinx's report.
        logging.getLogger("sphinx.ext.key_tables").warning(str(error))


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect it."""
    app.connect("source-read", _fill_in)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
