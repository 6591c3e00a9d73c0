"""Files that must be there whole or not at all, and locks that end with the process."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO


def write_atomically(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Writes a file so that a reader, or a crash, sees the old or the new one; never readable wider than `mode`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Locked(Exception):
    """Another process holds the lock; the text is what it wrote into the file (its process id)."""


def lock(path: Path) -> IO[str]:
    """Takes the lock file `path` for as long as the returned file is open; raises Locked."""
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        holder = file.read().strip()
        file.close()
        raise Locked(holder) from None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file
