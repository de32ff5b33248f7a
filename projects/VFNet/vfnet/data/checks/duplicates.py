"""Which records are of one picture? Told by the file, and by its content where that is cheap."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from .report import name_first

Record = dict[str, Any]
_THREADS = 16
# Bytes from the middle of a file: headers of two pictures are often the same, compressed data not.
_SAMPLE = 2**14


def picture_keys(file_names: Iterable[str]) -> dict[str, Hashable]:
    """Return a key for each file name; names of one picture have equal keys.

    Links and other spellings of a path lead to one file. Copies are found by content: of files of
    one size, some bytes are compared, and those that agree in them are read whole. So the cost
    beyond a look at each file is at most one reading of the copies, less than an epoch reads.
    Names that are no local files (s3://) are told by name alone.
    """
    names = list(dict.fromkeys(file_names))
    with ThreadPoolExecutor(_THREADS) as pool:
        keys: dict[str, Hashable] = {}
        by_size: dict[int, dict[Hashable, str]] = defaultdict(dict)  # size -> key -> one name
        for name, stat in zip(names, pool.map(_stat, names)):
            keys[name] = (stat.st_dev, stat.st_ino) if stat else name
            if stat:
                by_size[stat.st_size].setdefault(keys[name], name)
        groups = [list(files.values()) for files in by_size.values() if len(files) > 1]
        for whole in (False, True):
            groups = _agreeing(groups, partial(_digest, whole=whole), pool)
    same = {keys[name]: keys[group[0]] for group in groups for name in group}
    return {name: same.get(key, key) for name, key in keys.items()}


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


def _digest(name: str, whole: bool) -> bytes:
    with open(name, "rb") as file:
        if whole:
            return hashlib.sha256(file.read()).digest()
        file.seek(max(0, os.fstat(file.fileno()).st_size - _SAMPLE) // 2)
        return file.read(_SAMPLE)


def _agreeing(
    groups: Sequence[Sequence[str]], digest: Callable[[str], bytes], pool: ThreadPoolExecutor
) -> list[list[str]]:
    """Split each group by digest, and keep the parts of two or more."""
    names = [name for group in groups for name in group]
    digests = dict(zip(names, pool.map(digest, names)))
    parts = []
    for group in groups:
        by_digest = defaultdict(list)
        for name in group:
            by_digest[digests[name]].append(name)
        parts += [part for part in by_digest.values() if len(part) > 1]
    return parts
