"""Names are data: how they are written and shown, whatever they hold."""


def as_utf8(name: str) -> str:
    r"""Return a name that can be encoded: bytes of a file name that are not UTF-8 become `\xe4`."""
    return "".join(_escaped(c) if "\ud800" <= c <= "\udfff" else c for c in name)


def printable(text: str) -> str:
    r"""Return a text in which what is not printable stands escaped, as in `\x1b` and `\n`.

    So no name of a file or a class writes lines of its own, or moves a terminal's cursor.
    """
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # how Python hands on a byte that it cannot decode
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
