"""Which records are of one picture? Told by the file, and by its content where that is cheap."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ...utils.files import sha256
from .report import name_first

Record = dict[str, Any]
_THREADS = 16


def picture_keys(file_names: Iterable[str]) -> dict[str, str]:
    """Return a key for each file name; names of one picture have equal keys.

    Links, other spellings of a path and copies are found by content: files of one size, of which
    compressed pictures have few, are read. Names that are no local files (s3://) are told by name.
    """
    names = sorted(set(file_names))
    with ThreadPoolExecutor(_THREADS) as pool:
        sizes = {
            name: size for name, size in zip(names, pool.map(_size, names)) if size is not None
        }
        counts = Counter(sizes.values())
        alike = [name for name, size in sizes.items() if counts[size] > 1]
        digests = dict(zip(alike, pool.map(sha256, alike)))
    return {name: digests.get(name, name) for name in names}


def describe_repeated(records: Sequence[Record], keys: Mapping[str, str]) -> str:
    """Say which pictures have several records, by `picture_keys`; "" for none."""
    groups = defaultdict(list)
    for record in records:
        groups[keys[record["file_name"]]].append(record)
    repeated = [
        " = ".join(f"{record['file_name']} (id {record.get('image_id')})" for record in group)
        for group in groups.values()
        if len(group) > 1
    ]
    if not repeated:
        return ""
    return (
        f"{len(repeated)} pictures have more than one record, by name or content: "
        f"{name_first(repeated)}. To each record the objects of the others are "
        "background; give each picture one record with all its objects"
    )


def describe_shared(
    test: Sequence[Record], train: Sequence[Record], keys: Mapping[str, str]
) -> str:
    """Say which pictures to test on are trained on as well, by `picture_keys`; "" for none."""
    tested = {keys[record["file_name"]]: record["file_name"] for record in test}
    trained = {keys[record["file_name"]] for record in train}
    shared = [name for key, name in tested.items() if key in trained]
    if not shared:
        return ""
    return (
        f"{len(shared)} of {len(tested)} pictures are trained on as well, by name or content, so "
        f"that their AP says little about new ones: {name_first(shared)}"
    )


def _size(name: str) -> int | None:
    try:
        return os.path.getsize(name)
    except OSError:
        return None
