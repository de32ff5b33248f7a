"""How far a command is: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

from .text import printable


class Progress:
    """A bar with rate and time left on a terminal, a line for each step in a file or a pipe."""

    def __init__(self, total: int, unit: str):
        # None: no bar where standard error is no terminal.
        self._bar = tqdm(total=total or None, unit=unit, disable=None, dynamic_ncols=True)

    def step(self, line: str) -> None:
        """Count one, and print the line where there is no bar."""
        self._bar.update()
        if self._bar.disable:
            print(printable(line), flush=True)

    def tell(self, line: str) -> None:
        """Print a line to standard error, above the bar."""
        tqdm.write(printable(line), file=sys.stderr)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()


@contextmanager
def progress(total: int, unit: str) -> Iterator[Progress]:
    """Yield the progress of a block; `total` 0: it is not known how many steps there are."""
    shown = Progress(total, unit)
    try:
        yield shown
    finally:
        shown.close()
