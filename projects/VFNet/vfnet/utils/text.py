"""Names are data: how they are written and shown, whatever they hold."""

import re
import unicodedata
from collections.abc import Sequence

# Control characters, halves of surrogate pairs, line and paragraph separators.
_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")


def as_utf8(name: str) -> str:
    r"""Return a name that can be encoded: bytes of a file name that are not UTF-8 become `\xe4`."""
    return "".join(_escaped(c) if "\ud800" <= c <= "\udfff" else c for c in name)


def printable(text: str) -> str:
    r"""Return a text in which what is not printable stands escaped, as in `\x1b` and `\n`.

    So no name of a file or a class writes lines of its own, or moves a terminal's cursor.
    """
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def one_line(text: str) -> str:
    """Return a text `printable` in one line: line ends become spaces."""
    return printable(re.sub(r"\s*[\r\n]+\s*", " ", text))


def is_name(text: str) -> bool:
    """Whether a line of text can hold this as it is, be it written or shown."""
    return not any(unicodedata.category(character) in _UNPRINTABLE for character in text)


def listed(names: Sequence[str], most: int = 10) -> str:
    """Return the first `most` names of a list for a message, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # how Python hands on a byte that it cannot decode
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
