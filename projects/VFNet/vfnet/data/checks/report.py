"""How the data part names items in its messages: all counted, the first ten by name."""

from collections.abc import Sequence

from ...utils.text import printable


def name_first(items: Sequence[str], limit: int = 10) -> str:
    """Return "a; b; c" or, above `limit` items, "a; b; …; and 7 more"."""
    named = "; ".join(map(printable, items[:limit]))
    return f"{named}; and {len(items) - limit} more" if len(items) > limit else named
