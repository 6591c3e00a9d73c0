"""Files that must be there whole or not at all, and locks that end with the process."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from eventlog.database_folder import sync_folder

STAGED = ".new"


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
    sync_folder(path.parent)


def replace_pair(certificate: Path, certificate_pem: bytes, key: Path, key_pem: bytes) -> None:
    """A certificate and its key, which can not be written at one moment: after a crash, finish() goes on."""
    with _pairs_of(certificate.parent, fcntl.LOCK_EX):
        write_atomically(staged(key), key_pem, 0o600)
        write_atomically(staged(certificate), certificate_pem)  # last: now both are whole
        _put_in_place(certificate, key)


def finish(certificate: Path, key: Path) -> None:
    """Puts what an interruption left of a staged pair into its place. Raises OSError."""
    if staged(certificate).exists():
        with _pairs_of(certificate.parent, fcntl.LOCK_EX):
            _put_in_place(certificate, key)


@contextmanager
def steady(certificate: Path) -> Iterator[None]:
    """While the block reads a certificate and its key, nobody replaces them. Raises OSError."""
    with _pairs_of(certificate.parent, fcntl.LOCK_SH):
        yield


def _put_in_place(certificate: Path, key: Path) -> None:
    if not staged(certificate).exists():
        return  # a key alone: it was interrupted before both were there
    if staged(key).exists():
        staged(key).replace(key)
    staged(certificate).replace(certificate)


@contextmanager
def _pairs_of(folder: Path, kind: int) -> Iterator[None]:
    """Two that replace a pair at once would leave the certificate of one with the key of the other."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, kind)
        yield
    finally:
        os.close(descriptor)


def staged(path: Path) -> Path:
    """Where the successor of a file waits until both of a pair are whole."""
    return path.with_name(path.name + STAGED)


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


def holder(path: Path) -> str:
    """What the process that has lock() of `path` wrote into it; "" where none has. Changes nothing. Raises OSError."""
    try:
        file = path.open()
    except FileNotFoundError:
        return ""
    with file:
        try:
            # shared: two that look at once are not taken for a holder, and a file system that is read-only will do
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read().strip()
    return ""
