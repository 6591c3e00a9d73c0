"""Which processes are the workers of a node, and which of them has a connection: as the kernel tells it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

from nodes.process import arguments


def workers_of(pid: int) -> list[int]:
    """The process ids of a node's workers."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [child for child in map(int, children) if "nodes.workers" in arguments(child)]


def holder(connection: socket.socket, pids: list[int]) -> int:
    """The process that holds the other end of a connection over IPv4 loopback."""
    ours, theirs = (f"{end[1]:04X}" for end in (connection.getsockname(), connection.getpeername()))
    inode = next(
        row[9]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if (row := line.split())[1].endswith(f":{theirs}") and row[2].endswith(f":{ours}")
    )
    return next(pid for pid in pids if f"socket:[{inode}]" in _open_in(pid))


def _open_in(pid: int) -> set[str]:
    found = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.add(os.readlink(descriptor))
        except OSError:
            continue
    return found


def wait_for(reached: Callable[[], object], timeout_s: float = 20.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not reached():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
