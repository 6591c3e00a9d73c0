"""Processor time of processes: what a figure costs, which says more than a rate where other programs run beside it."""

import contextlib
import os
from collections.abc import Iterable

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PARENT, TIMES = (
    1,
    slice(11, 15),
)  # in /proc/PID/stat behind the name: utime, stime, and both of children that have ended


def cpu_seconds(processes: Iterable[int]) -> float:
    """User and system time of these processes and of their children that have ended; 0 of one that has gone."""
    return sum(sum(map(int, _stat(one)[TIMES])) for one in processes) / TICKS_PER_S


def with_descendants(process: int) -> list[int]:
    """The process and all that it, or one of them, has started."""
    parents: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (found := _stat(int(name))):
            parents.setdefault(int(found[PARENT]), []).append(int(name))
    family = [process]
    for one in family:
        family += parents.get(one, ())
    return family


def _stat(process: int) -> list[str]:
    with contextlib.suppress(OSError), open(f"/proc/{process}/stat") as file:
        return file.read().rpartition(")")[2].split()
    return []
