"""Files that are either whole or not there."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def write_aside(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a file that takes the place of `path` only when the block ends without an exception.

    It is written under a unique name in the same folder and renamed, so that a reader, another
    writer or a kill in the middle never meets half a file; after an exception it is removed.
    """
    target = Path(path)
    # Not tempfile.mkstemp: its files are readable by their owner only, checkpoints are shared.
    aside = target.with_name(f".{target.name}.{os.getpid()}.{uuid.uuid4().hex}.tmp")
    try:
        with open(aside, "xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(aside, target)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


@contextmanager
def write_folder_aside(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Give an empty folder whose files move into `folder` when the block ends without an exception.

    They replace files of the same names; .json files, which describe the others, come last. What is
    written is removed after an exception.
    """
    target = Path(folder)
    aside = target / f".{os.getpid()}.{uuid.uuid4().hex}.tmp"
    aside.mkdir(parents=True)
    try:
        yield aside
        for file in sorted(aside.iterdir(), key=lambda file: (file.suffix == ".json", file.name)):
            with open(file, "rb") as stream:
                os.fsync(stream.fileno())
            os.replace(file, target / file.name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def is_special_file(path: str | os.PathLike[str]) -> bool:
    """Whether a path is there and is neither a file nor a folder: reading a pipe may never end."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def sha256(file: str) -> str:
    """The sha256 of a file's content, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
