"""What keeps a node from starting, in a sentence that names the key to change; and what it claims before it starts."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nodes.config.node import NodeConfig
from nodes.config.secrets import SecretError, read_secret
from nodes.files import Locked, lock, write_atomically
from nodes.process import LOCK_NAME

CLUSTER_KEY_BYTES = 32


class StartError(Exception):
    """The node can not start; the text says why and `hint` what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def read_cluster_key(path: Path) -> bytes:
    """The keys in a file, as `read_cluster_keys` gives them."""
    return read_cluster_keys(f"file:{path}")


def read_cluster_keys(reference: str) -> bytes:
    """The keys behind a reference, oldest first, 32 bytes each, one behind the other. Raises StartError, never showing
    what is there."""
    hint = "the file that `mailraft cluster init` wrote; it is the same on every node"
    place = reference.removeprefix("file:")
    try:
        keys = bytes.fromhex(read_secret(reference).decode())
    except SecretError as error:
        raise StartError(f"secrets.cluster_key_file: {error}", hint) from None
    except ValueError:
        keys = b""
    if not keys or len(keys) % CLUSTER_KEY_BYTES:
        must = f"must hold {CLUSTER_KEY_BYTES} bytes in hexadecimal"
        raise StartError(f"secrets.cluster_key_file: {place} {must}", hint)
    return keys


@contextmanager
def only_one(config: NodeConfig) -> Iterator[None]:
    """Two processes on one database would be one node that votes twice."""
    folder = config.node.data_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = lock(folder / LOCK_NAME)
    except Locked as holder:
        raise StartError(f"node.data_dir = {folder}: another process runs this node (pid {holder})") from None
    except OSError as error:
        raise StartError(f"node.data_dir = {folder}: can not be written to: {error.strerror}") from None
    with held:
        yield


@contextmanager
def pid_file(config: NodeConfig) -> Iterator[None]:
    """Writes `node.pid_file`, where one is configured, for as long as the block runs. Raises StartError."""
    path = config.node.pid_file
    if path is None:
        yield
        return
    try:
        write_atomically(path, f"{os.getpid()}\n".encode())
    except OSError as error:
        raise StartError(f"node.pid_file = {path}: can not be written: {error.strerror}") from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def can_not_listen(key: str, address: str, error: OSError) -> StartError:
    """The error for an address that can not be bound, by what the system said."""
    if error.errno == errno.EADDRINUSE:
        return StartError(f"{key} = {address}: the address is in use", "stop the other program, or set another port")
    if error.errno == errno.EACCES:
        return StartError(f"{key} = {address}: not allowed", "a port from 1024 up, or the right to bind lower ones")
    return StartError(
        f"{key} = {address}: can not listen there: {error.strerror or error}", "an address of this machine"
    )
