"""docs/own_data.md: its commands are those that there are."""

import re
import runpy
import shlex
import sys

import pytest


def commands(page):
    """The words of each command: indented lines that begin with python, joined where they go on."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    return [shlex.split(line) for line in re.findall(r"^    (python .*)$", text, re.MULTILINE)]


@pytest.mark.parametrize("index", range(10))
def test_a_command_is_one_that_its_script_takes(repository, monkeypatch, index):
    found = commands(repository / "docs" / "own_data.md")
    assert len(found) == 10
    _, script, *words = found[index]
    names = runpy.run_path(str(repository / script))
    monkeypatch.setattr(sys, "argv", [script, *words])
    # An option that a script does not know ends in SystemExit.
    if "get_parser" in names:
        arguments = names["get_parser"]().parse_args()
    elif "parse_args" in names:
        arguments = names["parse_args"](words)
    else:
        arguments = names["parse_arguments"]()
    config = getattr(arguments, "config_file", None) or ""
    if config.startswith("configs/"):
        assert (repository / config).is_file()
