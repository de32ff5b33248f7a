"""Config files read safely: plain yaml with `_BASE_`, of bounded size and depth."""

from __future__ import annotations

import os
from typing import Any

import yaml
from detectron2.config import CfgNode
from detectron2.utils.file_io import PathManager
from fvcore.common.config import BASE_KEY

from ..errors import UserError

# A dumped config with a name for each of 13,000 classes has 15,000 nodes in 0.3 MB.
_MOST_BYTES = 1_000_000
_MOST_NODES = 50_000
_LONGEST_SCALAR = 10_000  # characters; yaml's integers in base 60 take quadratic time
_DEEPEST = 50
_MOST_FILES = 50

_STANDARD_TAG = "tag:yaml.org,2002:"

# What PyYAML raises, where it takes `!!int ""`, `!!bool x` and `2001-99-99` for granted, too.
_YAML_ERRORS = (
    *(yaml.YAMLError, RecursionError),
    *(ArithmeticError, AttributeError, LookupError, TypeError, ValueError),
)


class SafeCfgNode(CfgNode):
    """Detectron2's `CfgNode`, but `merge_from_file` never runs code that a file holds.

    It is the root alone: the nodes below are Detectron2's, and so are those of a file, because
    only nodes of the same type can be merged.
    """

    @classmethod
    def load_yaml_with_base(cls, filename: str, allow_unsafe: bool = False) -> dict[str, Any]:
        # Safely, whatever `allow_unsafe` says.
        return load_yaml(filename)

    @classmethod
    def _decode_cfg_value(cls, value: Any) -> Any:
        return CfgNode._decode_cfg_value(value)

    def merge_from_other_cfg(self, cfg_other: CfgNode) -> None:
        """As Detectron2's; where the default is a float, a whole number may stand for one."""
        super().merge_from_other_cfg(_with_floats(cfg_other, self))

    def merge_from_list(self, cfg_list: list[Any]) -> None:
        """As Detectron2's; where the default is a float, a whole number may stand for one."""
        words = list(cfg_list)
        for place in range(1, len(words), 2):
            default: Any = self
            for name in str(words[place - 1]).split("."):
                default = default.get(name) if isinstance(default, dict) else None
            if isinstance(default, float) and type(self._decode_cfg_value(words[place])) is int:
                words[place] = float(words[place])
        super().merge_from_list(words)


def load_yaml(path: str) -> dict[str, Any]:
    """Read a config file and the files that its `_BASE_` names, as fvcore's `CfgNode` does.

    Unlike there, a tag such as `!!python/object` never runs code. A `_BASE_` is a path or a list
    of them, each relative to the file that names it; a later one wins over an earlier one.

    Args:
        path: of the file, or a URL.

    Raises:
        UserError: a file is missing, too large, nested too deeply or not plain yaml, or the files
            are each other's bases.
    """
    return _Reader().read(path, chain=())


def read_plain_yaml(path: str) -> dict[str, Any]:
    """Read one yaml file, as bounded as a config, without looking for `_BASE_`.

    Raises:
        UserError: as `load_yaml`.
    """
    reader = _Reader("yaml file")
    return reader.parse(path, reader.read_bytes(path, chain=()))


class _Reader:
    """Reads the files of one config, which together have so many nodes and no more."""

    def __init__(self, what: str = "config file") -> None:
        self._what = what
        self._files = self._bytes = self._nodes = 0

    def read(self, path: str, chain: tuple[str, ...]) -> dict[str, Any]:
        """Read `path`, which is a base of the last of `chain`, which is one of the one before."""
        content = self.parse(path, self.read_bytes(path, chain))
        bases = content.pop(BASE_KEY, [])
        bases = [bases] if isinstance(bases, str) else bases
        if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
            raise UserError(
                f"config file {path}: expected a path or a list of paths in {BASE_KEY}, got {bases}"
            )
        inherited: dict[str, Any] = {}
        for base in bases:
            inherited = _merged(inherited, self.read(_base_path(base, path), (*chain, path)), path)
        return _merged(inherited, content, path)

    def read_bytes(self, path: str, chain: tuple[str, ...]) -> bytes:
        named = f"{self._what} {path}" + (f", {BASE_KEY} of {chain[-1]}," if chain else "")
        if os.path.realpath(path) in map(os.path.realpath, chain):
            raise UserError(f"{named} is a base of its own: {' -> '.join((*chain, path))}")
        try:
            local = PathManager.get_local_path(path)
            if not os.path.isfile(local):  # a pipe or a device would never end
                raise UserError(f"{named} does not exist, or is no file; check the path")
            with open(local, "rb") as file:
                text = file.read(_MOST_BYTES + 1)
        except OSError as error:
            raise UserError(f"{named} cannot be read: {error.strerror or error}") from None
        self._files += 1
        self._bytes += len(text)
        if self._files > _MOST_FILES or self._bytes > _MOST_BYTES:
            raise UserError(
                f"{named} is too much: expected at most {_MOST_FILES} "
                f"files and {_MOST_BYTES} bytes, with all bases"
            )
        return text

    def parse(self, path: str, text: bytes) -> dict[str, Any]:
        try:
            loader = _BoundedLoader(text, f"{self._what} {path}", self._nodes)
            content = loader.get_single_data()
            self._nodes = loader.nodes
        except UserError:
            raise
        except _YAML_ERRORS as error:
            raise UserError(f"{self._what} {path} is not valid yaml: {_problem(error)}") from None
        if not isinstance(content, dict):
            found = "nothing" if content is None else type(content).__name__
            raise UserError(f"{self._what} {path}: expected keys with values, got {found}")
        return content


class _BoundedLoader(yaml.SafeLoader):
    """A `SafeLoader` that ends where a file is larger or deeper than any config.

    An alias (`*name`) counts as much as what it repeats, because merging writes that out.
    """

    def __init__(self, text: bytes, named: str, nodes: int) -> None:
        super().__init__(text)
        self.nodes = nodes  # those of the files before this one count, too
        self._named = named
        self._depth = 0
        self._sizes: dict[str, int] = {}  # nodes below each anchor that is complete

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        before = self.nodes
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in self.anchors and event.anchor not in self._sizes:
                self._refuse(event, f"*{event.anchor} stands in what it repeats")
            self.nodes += self._sizes.get(event.anchor, 0)
        else:
            self.nodes += 1
        self._check(event)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        self._sizes[event.anchor] = self.nodes - before
        return node

    def _check(self, event: Any) -> None:
        tag = getattr(event, "tag", None)
        if tag and tag not in self.yaml_constructors and tag != "!":
            name = tag.replace(_STANDARD_TAG, "!!")
            self._refuse(event, f"the tag {name} is not allowed")
        if self.nodes > _MOST_NODES:
            self._refuse(event, f"more than {_MOST_NODES} values with all aliases written out")
        if self._depth > _DEEPEST:
            self._refuse(event, f"values more than {_DEEPEST} deep")
        if isinstance(event, yaml.ScalarEvent) and len(event.value) > _LONGEST_SCALAR:
            self._refuse(event, f"a value of more than {_LONGEST_SCALAR} characters")

    def _refuse(self, event: Any, found: str) -> None:
        raise UserError(
            f"{self._named}, line {event.start_mark.line + 1}: {found}; "
            "expected plain yaml, as of a config"
        )


def _with_floats(values: CfgNode, defaults: CfgNode) -> CfgNode:
    """A copy of `values` whose whole numbers are floats where the defaults are."""
    result = values.clone()
    for key, value in values.items():
        default = defaults.get(key)
        if isinstance(value, CfgNode) and isinstance(default, CfgNode):
            result[key] = _with_floats(value, default)
        elif type(value) is int and isinstance(default, float):
            result[key] = float(value)
    return result


def _base_path(base: str, path: str) -> str:
    base = os.path.expanduser(base)
    is_url = base.startswith(("http://", "https://"))
    return base if is_url else os.path.join(os.path.dirname(path), base)


def _merged(base: dict[str, Any], over: dict[str, Any], path: str) -> dict[str, Any]:
    """A copy of `base` in which the values of `over`, read from `path`, win."""
    result = dict(base)
    for key, value in over.items():
        if isinstance(value, dict) and key in base:
            if not isinstance(base[key], dict):
                raise UserError(
                    f"config file {path}: {key} has keys below it, but is {base[key]!r} in its base"
                )
            value = _merged(base[key], value, path)
        result[key] = value
    return result


def _problem(error: Exception) -> str:
    if not isinstance(error, yaml.MarkedYAMLError):
        return " ".join(str(error).split()).replace('in "<byte string>", ', "at ")
    mark = error.problem_mark or error.context_mark
    where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    return f"{error.problem or error.context}{where}"
