"""How the data part names items in its messages: all counted, the first ten by name."""

from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def name_first(
    items: Sequence[Item], describe: Callable[[Item], str] = str, limit: int = 10
) -> str:
    """Return "a; b; c" or, above `limit` items, "a; b; …; and 7 more"."""
    named = "; ".join(describe(item) for item in items[:limit])
    return f"{named}; and {len(items) - limit} more" if len(items) > limit else named
