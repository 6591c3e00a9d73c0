"""What a process does about other processes: end with its parent, recognise a node by its command line.

Linux only (prctl and /proc). A process id alone proves nothing: it may have been given away again.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent_pid: int) -> None:
    """Has the kernel send SIGTERM to this process when its parent ends, also when that was killed.

    Ends at once if the parent is gone already.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent_pid:
        sys.exit("the process that started this node has ended")


def arguments(pid: int) -> list[str]:
    """The command line of a process; empty if there is none (or it has ended and waits for its parent)."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return [part.decode(errors="surrogateescape") for part in raw.split(b"\0")[:-1]]


def runs_node(pid: int, config: Path) -> bool:
    """Whether the process `pid` is `mailraft node run` with this configuration file."""
    words = arguments(pid)
    if "node" not in words or "run" not in words or "--config" not in words[:-1]:
        return False
    try:
        named = Path(f"/proc/{pid}/cwd").readlink() / words[words.index("--config") + 1]
    except OSError:
        return False
    return named.resolve() == config.resolve()


def read_pid(path: Path) -> int | None:
    """The process id that a file holds, or None."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
