"""Whose connection is this? On one machine, the kernel knows which process holds the other end of a TCP connection.

Linux, IPv4 on loopback, processes of the same user: /proc/net/tcp has each socket's inode, /proc/PID/fd who holds it.
And, for root, sockets of another network namespace.
"""

import ctypes
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

PROC = Path("/proc")
LOCAL, REMOTE, INODE = 1, 2, 9  # columns of /proc/net/tcp (proc(5))
CLONE_NEWNET = 0x40000000  # sched.h


def holder(local: tuple[str, int], remote: tuple[str, int], words: Mapping[str, str]) -> str | None:
    """Which of some processes has a socket with these two ends; None: none of them.

    `words` tells a process by a word of its command line: name -> word.
    """
    inode = _inode(_shown(local), _shown(remote))
    if inode is None:
        return None
    name_of = {word: name for name, word in words.items()}
    return next((name for pid, name in _named(name_of) if _holds(pid, f"socket:[{inode}]")), None)


def _inode(local: str, remote: str) -> str | None:
    for line in (PROC / "net" / "tcp").read_text().splitlines()[1:]:
        columns = line.split()
        if columns[LOCAL] == local and columns[REMOTE] == remote:
            return columns[INODE]
    return None


def _shown(end: tuple[str, int]) -> str:
    """An address as /proc/net/tcp shows it: the four bytes as one number of this machine's order, then the port."""
    (number,) = struct.unpack("=I", socket.inet_aton(end[0]))
    return f"{number:08X}:{end[1]:04X}"


def _named(name_of: Mapping[str, str]) -> Iterator[tuple[Path, str]]:
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue  # it ended meanwhile
            yield from ((entry, name_of[word]) for word in words if word in name_of)


def _holds(process: Path, link: str) -> bool:
    try:
        return any(str(file.readlink()) == link for file in (process / "fd").iterdir())
    except OSError:
        return False


def socket_inside(namespace: str, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """A socket that belongs to the network namespace of this file, as it does for ever. Raises OSError."""
    with open(PROC / "self" / "ns" / "net") as ours, open(namespace) as theirs:
        _enter(theirs.fileno())
        try:
            made = socket.socket(type=kind)
        finally:
            _enter(ours.fileno())  # this thread alone was there
    made.setblocking(False)
    return made


def _enter(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), f"setns: {os.strerror(ctypes.get_errno())}")
