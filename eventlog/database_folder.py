"""The folder of a node's database: who uses its file, what shows that there was one, renames that must last."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


def sync_folder(path: Path) -> None:
    """Makes renames inside a folder durable."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextlib.contextmanager
def in_use(path: Path, *, alone: bool = False) -> Iterator[None]:
    """Keeps the file of a database from being replaced while another process reads it.

    With `alone`, for who wants to replace it: raises BlockingIOError while anybody reads. The lock is the folder's own,
    because looking must leave nothing behind, and LMDB's locks would go with a second handle on its lock file.
    """
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH)
        yield
    finally:
        os.close(folder)


def joined_mark(path: Path) -> Path:
    """Beside the database's folder, not in it: what says that there was a database, if its disk is not there."""
    return path.parent / f"{path.name}.joined"
