"""Where is the picture that a json file names as it was called on another machine?"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import unquote

# Asking for a file is waiting, most of all on network drives.
_THREADS = 16


def find_pictures(image_root: str, names: Iterable[str]) -> dict[str, str]:
    """Find pictures that are not where their names say: name -> name relative to `image_root`.

    Exporters write names with backslashes (Windows), absolute ones, percent-encoded ones and ones
    with folders in front (CVAT, Label Studio). The longest end of a name that is there counts, and
    only where no other name leads to the same picture. What is found nowhere is left out; so is
    what is there, and everything in a folder that is not a local one.
    """
    names = list(dict.fromkeys(names))
    if not os.path.isdir(image_root):
        return {}
    with ThreadPoolExecutor(_THREADS) as pool:
        found = dict(zip(names, pool.map(lambda name: _find(image_root, name), names)))
    counts = Counter(found.values())
    return {
        name: place
        for name, place in found.items()
        if place is not None and place != name and counts[place] == 1
    }


def _find(image_root: str, name: str) -> str | None:
    return next((n for n in _candidates(name) if _is_file(os.path.join(image_root, n))), None)


def _candidates(name: str) -> Iterator[str]:
    yield name
    for spelling in dict.fromkeys((name, unquote(name))):
        # Label Studio's local files: /data/local-files/?d=folder/x.jpg
        parts = [part for part in re.split(r"[\\/]|\?d=", spelling) if part not in ("", ".", "..")]
        for start in range(len(parts)):
            yield "/".join(parts[start:])


def _is_file(path: str) -> bool:
    try:
        return os.path.isfile(path)
    except ValueError:  # a null byte
        return False
