"""A font for each name: one that has its glyphs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import matplotlib
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from PIL import ImageFont

from ..utils.text import printable

logger = logging.getLogger(__name__)

# Longer names are cut: a label is to be read at a glance.
_LONGEST_NAME = 40


def names_with_fonts(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return for each class name what is written, and the file of the font that can write it.

    Control characters are escaped. A name whose glyphs no installed font has becomes the number of
    its class, and one line (a warning of the logger) says so.
    """
    shown = [_shortened(printable(name)) for name in names]
    fonts = [find_font(name) for name in shown]
    lost = tuple(name for name, font in zip(shown, fonts) if font is None)
    if lost:
        _tell_of_missing_font(lost)
    default = _default_font()
    return [
        (f"#{index}", default) if font is None else (name, font)
        for index, (name, font) in enumerate(zip(shown, fonts))
    ]


@lru_cache(maxsize=1024)
def find_font(text: str) -> str | None:
    """Return the file of a font that has all glyphs of a text: DejaVu Sans, else an installed one.

    None: there is none. Of installed ones plain sans-serif ones come first.
    """
    needed = {ord(character) for character in text if not character.isspace()}
    files = (_default_font(), *_installed_fonts()) if not text.isascii() else (_default_font(),)
    return next((file for file in files if needed <= _glyphs(file)), None)


@lru_cache(maxsize=64)
def load_font(file: str, size: int) -> ImageFont.FreeTypeFont:
    """Return a font of this height of its em, in pixels."""
    return ImageFont.truetype(file, size)


def _default_font() -> str:
    # Carried by matplotlib, so that labels look the same everywhere.
    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans-Bold.ttf")


@lru_cache(maxsize=1)
def _installed_fonts() -> tuple[str, ...]:
    def rank(file: str) -> tuple[bool, bool, str]:
        name = Path(file).stem
        return "Sans" not in name, "Regular" not in name, name

    return tuple(sorted(font_manager.findSystemFonts(), key=rank))


@lru_cache(maxsize=256)
def _glyphs(file: str) -> frozenset[int]:
    try:
        return frozenset(FT2Font(file).get_charmap())
    except (OSError, RuntimeError):  # removed since matplotlib listed it, or damaged
        return frozenset()


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"


@lru_cache(maxsize=64)
def _tell_of_missing_font(names: tuple[str, ...]) -> None:
    logger.warning(
        f"no installed font has the glyphs of {len(names)} class names, the first {names[0]!r}: "
        "they are drawn by their numbers; a font that has them, such as Noto Sans CJK, helps"
    )
