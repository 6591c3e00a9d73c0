"""Blocks of ports on loopback for clusters that are made before they are started.

Who asked for a block may not have bound it yet, so no block is given twice: neither by this process nor by another of
the same user, such as the other workers of a run of the tests.
"""

import fcntl
import os
import random
import socket
from functools import cache
from pathlib import Path
from typing import IO

TRIES = 1000
CLAIMS = Path(f"/tmp/mailraft-ports-{os.getuid()}")  # noqa: S108 - the same for all, whatever their TMPDIR


class NoPorts(Exception):
    """There is no block of free ports."""


class PortBlocks:
    """Gives blocks out of `ports`, each beginning at a multiple of `step` from the first."""

    def __init__(self, ports: range, step: int, claims: Path = CLAIMS) -> None:
        self._ports = ports
        self._step = step
        self._claims = claims
        self._given: set[int] = set()  # by this process, past and present

    def take(self, count: int) -> int:
        """The first of `count` ports in a row that are free, and this process's until it ends.

        If all were given, those of this process are given again. Raises NoPorts.
        """
        for attempt in range(2 * TRIES):
            if attempt == TRIES:
                self._forget()
            base = random.randrange(self._ports.start, self._ports.stop - count + 1, self._step)
            block = range(base, base + count)
            if self._given.isdisjoint(block) and _claim(self._claims, block) and all(map(_is_free, block)):
                self._given.update(block)
                return base
        raise NoPorts(f"no block of {count} free ports between {self._ports.start} and {self._ports.stop}")

    def _forget(self) -> None:
        for port in self._given:
            fcntl.lockf(_opened(self._claims), fcntl.LOCK_UN, 1, port)
        self._given.clear()


@cache
def _opened(claims: Path) -> IO[bytes]:
    """One file for all processes: a lock on byte N claims port N. To close it would give up every claim."""
    return claims.open("ab")


def _claim(claims: Path, block: range) -> bool:
    """Whether no other process has a part of it; then none gets one until this process ends."""
    try:
        fcntl.lockf(_opened(claims), fcntl.LOCK_EX | fcntl.LOCK_NB, len(block), block.start)
    except OSError:
        return False
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
