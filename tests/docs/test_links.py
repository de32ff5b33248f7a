"""Links between files, as GitHub follows them: `make docs` checks those of the site alone."""

import re
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from tests.docs.blocks import DOCUMENTS, ROOT


def targets(document: Path) -> set[str]:
    """The relative links and pictures of a document."""
    tokens = MarkdownIt("commonmark").enable("table").parse(document.read_text(encoding="utf-8"))
    inline = [child for token in tokens for child in token.children or ()]
    links = [token.attrs.get("href") or token.attrs.get("src") for token in inline]
    return {link for link in links if link and not re.match(r"\w+:", link)}


@cache
def anchors(document: Path) -> set[str]:
    """What GitHub calls the headings of a document."""
    tokens = MarkdownIt("commonmark").parse(document.read_text(encoding="utf-8"))
    headings = [
        "".join(child.content for child in after.children)
        for token, after in pairwise(tokens)
        if token.type == "heading_open"
    ]
    return {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(document):
    for link in targets(document):
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
