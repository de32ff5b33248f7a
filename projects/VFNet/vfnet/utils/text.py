"""Text of others, such as names of files and classes, in lines of our own."""

import re
import unicodedata

# Control characters (ESC moves the cursor), halves of surrogate pairs (no encoding has them), line
# and paragraph separators.
_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")


def is_printable(text: str) -> bool:
    """Whether a line of text can hold this as it is."""
    return not any(unicodedata.category(character) in _UNPRINTABLE for character in text)


def one_line(text: str) -> str:
    """The same in one line: white space as single spaces, what cannot be printed as \\x1b."""
    text = re.sub(r"\s*[\r\n]+\s*", " ", text)
    return "".join(
        c if unicodedata.category(c) not in _UNPRINTABLE else c.encode("unicode_escape").decode()
        for c in text
    )
