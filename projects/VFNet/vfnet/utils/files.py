"""Files that are either whole or not there."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from ..errors import UserError

# What the names of files and folders written aside look like: [.NAME].PROCESS.UUID.tmp
_ASIDE = re.compile(r"(\..+)?\.\d+\.[0-9a-f]+\.tmp")


class WriteError(UserError, OSError):
    """A file cannot be written: the disk is full, the folder is gone, or a right is missing."""


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what the system says against writing a file into a `WriteError` that names it.

    Args:
        path: what is named where the system names no file: it does when a file is opened.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        said = os_error_of(error)
        if said is None:
            raise
        named = said.filename is not None and not _is_aside(said.filename)
        raise _write_error(said.filename if named else path, said) from error


def os_error_of(error: BaseException | None) -> OSError | None:
    """Return what the system said: the exception, or the one that it was raised for; or None.

    `torch.save` raises a RuntimeError of its own where its stream cannot be written.
    """
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


class _File(io.FileIO):
    """Remembers the first error of writing, whatever its users make of it."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.error = self.error or error
            raise


@contextmanager
def write_aside(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a file that takes the place of `path` only when the block ends without an exception.

    It is written under a unique name in the same folder and renamed, so that a reader, another
    writer or a kill in the middle never meets half a file; after an exception it is removed.

    Raises:
        WriteError: it cannot be written. What else the block raises passes as it is.
    """
    target = Path(path)
    # Not tempfile.mkstemp: its files are readable by their owner only, checkpoints are shared.
    aside = target.with_name(f".{target.name}{_unique_suffix()}")
    with writing(target):
        file = _File(aside, "xb")
    try:
        with io.BufferedWriter(file) as stream:
            yield stream
            stream.flush()
            with writing(target):
                os.fsync(file.fileno())
        with writing(target):
            os.replace(aside, target)
    except BaseException as error:
        with suppress(OSError):
            os.remove(aside)
        if file.error is not None:
            raise _write_error(target, file.error) from error
        raise


@contextmanager
def write_folder_aside(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Give an empty folder whose files move into `folder` when the block ends without an exception.

    They replace files of the same names; .json files, which describe the others, come last. What is
    written is removed after an exception.
    """
    target = Path(folder)
    aside = target / _unique_suffix()
    aside.mkdir(parents=True)
    try:
        yield aside
        for file in sorted(aside.iterdir(), key=lambda file: (file.suffix == ".json", file.name)):
            with open(file, "rb") as stream:
                os.fsync(stream.fileno())
            os.replace(file, target / file.name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def remove_leftovers(folder: str | os.PathLike[str]) -> list[str]:
    """Remove what writers that were killed have left of `write_aside` and `write_folder_aside`.

    Only where nobody writes at the time. Returns the names of what was removed.
    """
    leftovers = [entry for entry in os.scandir(folder) if _is_aside(entry.name)]
    for entry in leftovers:
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            with suppress(OSError):
                os.remove(entry.path)
    return sorted(entry.name for entry in leftovers)


def _unique_suffix() -> str:
    return f".{os.getpid()}.{uuid.uuid4().hex}.tmp"


def _is_aside(name: str) -> bool:
    return _ASIDE.fullmatch(os.path.basename(name)) is not None


def _write_error(path: str | os.PathLike[str], said: OSError) -> WriteError:
    return WriteError(f"{os.fspath(path)} cannot be written: {said.strerror or said}")


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
