"""Which records are of one picture? Told by the file, and by its content where that is cheap."""

import os
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ...utils.files import sha256
from .report import name_first

Record = dict[str, Any]
_THREADS = 16


def picture_keys(file_names: Iterable[str]) -> dict[str, Hashable]:
    """Return a key for each file name; names of one picture have equal keys.

    Links and other spellings of a path lead to one file. Copies are found by content: files of one
    size, of which compressed pictures have few, are read. Names that are no local files (s3://) are
    told by name alone.
    """
    names = list(dict.fromkeys(file_names))
    with ThreadPoolExecutor(_THREADS) as pool:
        stats = {name: stat for name, stat in zip(names, pool.map(_stat, names)) if stat}
        files = {(stat.st_dev, stat.st_ino): name for name, stat in stats.items()}
        sizes = Counter(stats[name].st_size for name in files.values())
        alike = {key: name for key, name in files.items() if sizes[stats[name].st_size] > 1}
        digests = dict(zip(alike, pool.map(sha256, alike.values())))
    keys = {name: (stat.st_dev, stat.st_ino) for name, stat in stats.items()}
    return {name: digests.get(keys[name], keys[name]) if name in keys else name for name in names}


def describe_repeated(records: Sequence[Record], keys: Mapping[str, Hashable]) -> str:
    """Say which pictures have several records; "" for none.

    Args:
        records: dataset dicts.
        keys: of `picture_keys`.
    """
    groups = defaultdict(list)
    for record in records:
        groups[keys[record["file_name"]]].append(record)
    repeated = [group for group in groups.values() if len(group) > 1]
    if not repeated:
        return ""
    return (
        f"{len(repeated)} pictures have more than one record, by name or content: "
        f"{name_first(repeated, _names)}. To each record the objects of the others are "
        "background; give each picture one record with all its objects"
    )


def describe_shared(
    test: Sequence[Record], train: Sequence[Record], keys: Mapping[str, Hashable]
) -> str:
    """Say which pictures to test on are trained on as well; "" for none.

    See `describe_repeated`.
    """
    tested = {keys[record["file_name"]]: record["file_name"] for record in test}
    trained = {keys[record["file_name"]] for record in train}
    shared = [name for key, name in tested.items() if key in trained]
    if not shared:
        return ""
    return (
        f"{len(shared)} of {len(tested)} pictures are trained on as well, by name or content, so "
        f"that their AP says little about new ones: {name_first(shared)}"
    )


def _names(group: Sequence[Record]) -> str:
    return " = ".join(f"{record['file_name']} (id {record.get('image_id')})" for record in group)


def _stat(name: str) -> os.stat_result | None:
    try:
        return os.stat(name)
    except OSError:
        return None
