"""Every command in the documents is one that the project takes.

Each is parsed by the parser of its own tool, its configs exist, and its keys have values that they
can have. What a tool does is another test's, which mirrors it (`run_by`).
"""

import argparse
import ast
import itertools
import re
import runpy
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

import pytest
from detectron2.config import CfgNode

from tests.docs.blocks import ROOT, Block, commands, python_blocks, shell_blocks
from tests.extras import MODULES
from vfnet import get_cfg

# Programs that are not the project's.
FOREIGN = {
    "#!/bin/bash",
    "export",
    "git",
    "ln",
    "sahi",
    "sbatch",
    "source",
}
EXTRAS = {module for modules in MODULES.values() for module in modules}
# What a run wrote, or a reader has.
WRITTEN = ("output/", "datasets/", "/path/to/", "data.yaml")


class Parsed(BaseException):
    """Ends a tool once its own parser has read its command line."""


def parse(script: str, arguments: list[str]) -> argparse.Namespace:
    """What a tool's own parser makes of a command line; SystemExit where it refuses."""
    parse_args = argparse.ArgumentParser.parse_args

    def stop(parser, args=None, namespace=None):
        raise Parsed(parse_args(parser, args, namespace))

    folder = str((ROOT / script).parent)
    with (
        mock.patch.object(argparse.ArgumentParser, "parse_args", stop),
        mock.patch.object(sys, "argv", [script, *arguments]),
        mock.patch.object(sys, "path", [folder, *sys.path]),
        pytest.raises(Parsed) as parsed,
    ):
        runpy.run_path(str(ROOT / script), run_name="__main__")
    return parsed.value.args[0]


def check_script(script: str, arguments: list[str]) -> None:
    assert (ROOT / script).is_file(), f"there is no {script}"
    # What is in benchmarks/ is run to measure.
    assert script.startswith("benchmarks/") or run_by(script), f"no test runs {script}"
    arguments = [word for given in arguments for word in braces(given)]
    for word in arguments:
        if word.endswith((".yaml", ".yml")) and not word.startswith(WRITTEN):
            assert (ROOT / word).is_file(), f"there is no {word}"
    if "sys.argv[1]" in (ROOT / script).read_text(encoding="utf-8"):
        return  # it has no parser, and takes files alone
    args = parse(script, arguments)
    # KEY VALUE pairs may follow the files of --override directly.
    override = getattr(args, "override", None) or []
    files = list(itertools.takewhile(lambda word: word.endswith(".yaml"), override))
    pairs = override[len(files) :] + list(getattr(args, "opts", None) or ())
    config_file = getattr(args, "config_file", None)
    check_keys([config_file, *files] if config_file else files, pairs)


def check_keys(files: list[str], pairs: list[str]) -> None:
    """KEY VALUE pairs that can follow the config files."""
    cfg: CfgNode = get_cfg()
    for file in files:
        if not file.startswith(WRITTEN):
            cfg.merge_from_file(str(ROOT / file))
    cfg.merge_from_list(pairs)


def run_by(script: str) -> list[Path]:
    """The tests that run a script as its command does: they are called as it, and name it."""
    path = Path(script)
    places = [
        ROOT / "tests" / path.stem,
        ROOT / "tests" / f"test_{path.stem}.py",
        ROOT / "tests" / path.parent / f"test_{path.stem}.py",
    ]
    files = [file for place in places for file in [place, *place.glob("*.py")] if file.is_file()]
    return [file for file in files if path.stem in file.read_text(encoding="utf-8")]


def braces(word: str) -> list[str]:
    """As a shell expands a{b,c}."""
    match = re.search(r"^([^\[]*)\{([^{}]*,[^{}]*)\}(.*)$", word)
    if match is None:
        return [word]
    return [f"{match[1]}{part}{match[3]}" for part in match[2].split(",")]


def check_python(words: list[str]) -> None:
    if words[0] == "-m" and words[1] == "torch.distributed.run":
        from torch.distributed.run import get_args_parser

        job = get_args_parser().parse_args(words[2:])
        check_script(job.training_script, job.training_script_args)
    elif words[:2] == ["-m", "pytest"]:
        paths = [word for word in words[2:] if word.startswith("tests")]
        assert all((ROOT / path).exists() for path in paths), words
    elif words[:2] == ["-m", "pip"]:
        check_pip(words[2:])
    elif words[0] == "-m":
        assert words[1] in ("ruff", "mypy", "venv"), words
    else:
        check_script(words[0], words[1:])


def check_make(words: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in words:
        if "=" not in word:
            assert re.search(rf"^{re.escape(word)}:", makefile, re.MULTILINE), f"no target {word}"


def check_pip(words: list[str]) -> None:
    """Extras of this project exist."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    (extras,) = [
        ast.literal_eval(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and node.arg == "extras_require"
    ]
    assert words[0] == "install", words
    for names in re.findall(r"(?:\.|vfnet-detectron2)\[([\w,-]+)\]", " ".join(words)):
        assert set(names.split(",")) <= set(extras), words


def check(words: list[str]) -> None:
    program = words[0]
    if re.fullmatch(r"(\.venv/bin/)?python[\d.]*", program):
        check_python(words[1:])
    elif program == "make":
        check_make(words[1:])
    elif program == "pip":
        check_pip(words[1:])
    elif program == ".ci/run":
        assert (ROOT / program).is_file()
    else:
        assert program in FOREIGN, f"{program} is neither the project's nor known to be foreign"


@pytest.mark.parametrize("block", shell_blocks(), ids=str)
def test_the_project_takes_every_command(block: Block):
    for words in commands(block):
        check(words)


@pytest.mark.parametrize(
    "wrong",
    [
        ["python", "train_net.py", "--config-file", "configs/vfnet_R50_1x.yaml", "--gpus", "8"],
        ["python", "train_net.py", "--config-file", "configs/vfnet_R50_9x.yaml"],
        ["python", "train_net.py", "--config-file", "configs/vfnet_R50_1x.yaml", "SOLVER.LR", "1"],
        ["python", "tools/train.py"],
        ["make", "doc"],
        ["pip", "install", ".[documents]"],
        ["trian"],
    ],
    ids=" ".join,
)
def test_what_the_project_does_not_take_is_found(wrong, capsys):
    with pytest.raises((AssertionError, SystemExit, KeyError)):
        check(wrong)


def is_file_of_a_reader(text: str) -> bool:
    """Whether a text in a snippet is a file that a reader has, or weights from the network."""
    return text.startswith(("vfnet://", "mmdet://")) or bool(
        re.fullmatch(r"[\w./-]+\.(jpg|png|pth|onnx|xml|json|yaml|mp4)", text)
    )


def snippets() -> Iterator:
    """The blocks of Python; those that import what an extra brings are marked, and need it."""
    for block in python_blocks():
        modules = re.findall(r"^(?:from|import) (\w+)", block.text, re.MULTILINE)
        lacking = [name for name in modules if name in EXTRAS and find_spec(name) is None]
        skip = pytest.mark.skipif(bool(lacking), reason=f"needs an extra: {', '.join(lacking)}")
        marks = [skip, pytest.mark.extra] if EXTRAS & set(modules) else []
        yield pytest.param(block, marks=marks, id=str(block))


@pytest.mark.parametrize("block", snippets())
def test_every_snippet_of_python_compiles_and_finds_what_it_imports(block: Block):
    """Those that need no file of the reader's are run whole."""
    tree = ast.parse(block.text)
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    if not any(is_file_of_a_reader(text) for text in texts if isinstance(text, str)):
        exec(compile(tree, str(block), "exec"), {"__name__": "snippet"})
        return
    imports = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    exec(compile(ast.Module(imports, []), str(block), "exec"), {})
