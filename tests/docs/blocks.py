"""Code in the documents: shell commands and snippets of Python, each with its file and line."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SHELL = ("sh", "bash", "shell", "console")
# What a block without a language, or a code span, begins with if it is of shell commands.
_PROGRAMS = re.compile(
    r"(\w+=\S+ )*(make|python[\d.]*|\.venv/bin/python|pip|git|export|torchrun)\b"
)
_SPANS = re.compile(r"(\w+=\S+ )*(make \w|(python|\.venv/bin/python) [\w./-]+)")
_IMPORT = re.compile(r"from [\w.]+ import |import [\w.]+\n")


class Block(NamedTuple):
    """Code of a document; `line` counts from 1."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def shell_blocks() -> Iterator[Block]:
    """All blocks of commands, and the commands in code spans of the text."""
    for file, token in _tokens():
        line = (token.map or [0])[0] + 1
        if token.type in ("fence", "code_block"):
            language = token.info.strip()
            unnamed = not language and _PROGRAMS.match(token.content)
            if language in SHELL or unnamed:
                yield Block(file, line, token.content)
        elif token.type == "inline":
            for child in token.children or ():
                if child.type == "code_inline" and _SPANS.match(child.content):
                    yield Block(file, line, child.content)


def python_blocks() -> Iterator[Block]:
    """All blocks of Python, with that word or begun by an import."""
    for file, token in _tokens():
        unnamed = token.type == "code_block" and _IMPORT.match(token.content)
        if unnamed or (token.type == "fence" and token.info.strip() == "python"):
            yield Block(file, token.map[0] + 1, token.content)


def commands(block: Block) -> Iterator[list[str]]:
    """The words of each command of a block, without the variables before it and `srun`."""
    text = re.sub(r"\\\n\s*", "", block.text)
    text = re.sub(r"\$\(.*\)", "$OUTPUT", text)  # what another command prints
    text = re.sub(r"…|\.\.\.", "", text)  # and so on
    text = re.sub(r"^srun (bash -c ')?|(?<=\w)'$", "", text, flags=re.MULTILINE)
    text = re.sub(r"(?<=\S) {4,}\S.*$", "", text, flags=re.MULTILINE)  # what a command does
    text = re.sub(r"\[(--\w+)\]", r"\1", text)  # an option that may be left out
    variables: dict[str, str] = {}
    for line in map(str.strip, text.splitlines()):
        line = re.sub(r"\$(\w+)", lambda name: variables.get(name[1], "1"), line)
        if assignment := re.fullmatch(r'(\w+)="(.*)"', line):
            variables[assignment[1]] = assignment[2]
            continue
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|<>")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word and set(word) <= set(";&|"):
                if words:
                    yield words
                words = []
            elif words or not re.fullmatch(r"\w+=\S*", word):  # variables before a command
                words.append(word)


def code_spans() -> Iterator[Block]:
    """All code in the running text and in tables."""
    for file, token in _tokens():
        for child in token.children or ():
            if child.type == "code_inline":
                yield Block(file, (token.map or [0])[0] + 1, child.content)


def _tokens() -> Iterator:
    parser = MarkdownIt("commonmark").enable("table")
    for path in DOCUMENTS:
        for token in parser.parse(path.read_text(encoding="utf-8")):
            yield path.relative_to(ROOT).as_posix(), token
