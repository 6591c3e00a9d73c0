"""Pressure on a node's memory: the kernel gives its heap no more than a little beyond what it has."""

import re
import resource
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

from chaos.cluster import ClusterError
from chaos.faults.kinds import Done, fault
from chaos.site import Site

MIB = 1024 * 1024
DATA_LINE = re.compile(r"^VmData:\s+(\d+) kB$", re.MULTILINE)


@fault("memory-pressure", "a node's heap can not grow by more than a little (RLIMIT_DATA); allocations fail beyond it")
async def memory_pressure(site: Site, node: str, room_bytes: int = 16 * MIB) -> AsyncIterator[Done]:
    """The node may end of it, as it may under the kernel's own pressure; its supervisor starts it without the limit."""
    pid = site.pid(node)
    if pid is None:
        raise ClusterError(f"{node} does not run")
    held = heap_bytes(pid)
    soft, hard = resource.prlimit(pid, resource.RLIMIT_DATA)
    resource.prlimit(pid, resource.RLIMIT_DATA, (held + room_bytes, hard))
    try:
        yield Done((node,), f"{room_bytes // MIB} MiB beyond {held // MIB} MiB")
    finally:
        with suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_DATA, (soft, hard))


def heap_bytes(pid: int) -> int:
    """What RLIMIT_DATA counts of a process (proc(5), getrlimit(2)). Raises ClusterError if there is none."""
    try:
        found = DATA_LINE.search(Path(f"/proc/{pid}/status").read_text())
    except OSError:
        found = None
    if found is None:
        raise ClusterError(f"process {pid} is gone")
    return int(found[1]) * 1024
