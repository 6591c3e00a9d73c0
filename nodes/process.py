"""What a process asks of the system: to end with its parent, to keep its memory; and how it knows another node.

Linux only (prctl and /proc). A process id alone proves nothing: it may have been given away again.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import resource
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
GC_THRESHOLDS = (100_000, 20, 50)
LOCK_NAME = "node.lock"  # in node.data_dir, held by the process that runs the node
TRIM_S = 60.0
KEPT_BYTES = 64 * 1024 * 1024


def tune_memory() -> None:
    """For a process that moves much data: fewer garbage collections, and buffers that stay mapped.

    The program itself is never garbage, and a node makes and drops many small objects that form no cycles. Buffers of
    hundreds of KiB would be mapped and unmapped each time, a page fault a page: a tenth of a node's time under load.

    Where memory ends, libraries in Rust show no stack of their panic: to make one takes memory, under a lock that
    whoever gets none of it takes again. The process would wait for itself for ever instead of ending.
    """
    os.environ["RUST_BACKTRACE"] = "0"
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc
        libc.mallopt(_M_MMAP_THRESHOLD, KEPT_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, 2 * KEPT_BYTES)


def give_memory_back() -> None:
    """Returns to the system what was freed, where the allocator can (glibc): `tune_memory` keeps it for the next burst.

    A node that once caught up with much would otherwise look for ever as if it still needed that much. Takes
    milliseconds; call it from a thread now and then.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


async def keep_giving_memory_back() -> None:
    """The same every minute, for as long as a process serves."""
    while True:
        await asyncio.sleep(TRIM_S)
        await asyncio.to_thread(give_memory_back)


def raise_file_limit() -> None:
    """Lets this process hold as many connections as the system allows it; 1,024 is the default of many systems."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


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
    named = _config_option(words)
    if named is None or "node" not in words or "run" not in words:
        return False
    try:
        return (Path(f"/proc/{pid}/cwd").readlink() / named).resolve() == config.resolve()
    except OSError:
        return False


def _config_option(words: list[str]) -> str | None:
    for word, following in zip(words, [*words[1:], ""]):
        if word == "--config":
            return following
        if word.startswith("--config="):
            return word.removeprefix("--config=")
    return None


def read_pid(path: Path) -> int | None:
    """The process id that a file holds, or None."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
