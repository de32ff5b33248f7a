"""A lock on a folder that ends with its process."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime

from ..errors import UserError
from .files import writing

logger = logging.getLogger(__name__)

NAME = ".run.lock"
# What file systems without locks say, such as Lustre mounted without them.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def locked(folder: str) -> Iterator[None]:
    """Make `folder` where it is missing, and be its only owner within the block.

    The lock is a record lock of the system (`fcntl.lockf`): it ends with the process, however that
    ends, processes that are forked from it do not have it, and it holds on network file systems
    too. The file that carries it says who has it; it goes when the block ends. Within one process
    a second lock on a folder is not refused, and ends the first.

    Raises:
        UserError: another process has the lock, or the folder cannot be written to.
    """
    path = os.path.join(folder, NAME)
    made = not os.path.isdir(folder)
    descriptor = _acquire(folder, path)
    try:
        yield
    finally:
        # While it is locked: who has opened the file by now finds out that it is gone.
        with suppress(OSError):
            os.remove(path)
        os.close(descriptor)
        if made:
            with suppress(OSError):  # it is not empty any more
                os.rmdir(folder)


def unwritable(folder: str, error: OSError | ValueError) -> UserError:
    """The error for a folder that a run cannot write to."""
    said = getattr(error, "strerror", None) or error
    return UserError(f"OUTPUT_DIR {folder} cannot be written to ({said}); choose another one")


def _acquire(folder: str, path: str) -> int:
    while True:
        try:
            os.makedirs(folder, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except (OSError, ValueError) as error:  # a name with a NUL
            raise unwritable(folder, error) from None
        try:
            _lock(descriptor, folder)
            if _is_still(path, descriptor):
                since = datetime.now().strftime("%Y-%m-%d %H:%M:%S")
                holder = f"process {os.getpid()} on {socket.gethostname()}, since {since}"
                with writing(path):
                    os.truncate(descriptor, 0)
                    os.pwrite(descriptor, holder.encode(), 0)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor: int, folder: str) -> None:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            logger.warning(
                f"the file system of OUTPUT_DIR {folder} has no locks ({error.strerror}): see to "
                "it that no other run writes there"
            )
            return
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            raise
        holder = os.pread(descriptor, 200, 0).decode(errors="replace") or "a process"
        raise UserError(
            f"another run trains into OUTPUT_DIR {folder}: {holder}. Wait for its end, end it, or "
            "choose another OUTPUT_DIR; --eval-only may run beside it"
        ) from None


def _is_still(path: str, descriptor: int) -> bool:
    """Whether the locked file is the one that others will find, and not one removed since."""
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(descriptor))
