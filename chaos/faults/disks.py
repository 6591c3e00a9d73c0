"""Faults of a node's disk: no room, slow, damaged.

No room is a limit on the size of the node's files, which the kernel enforces in the write call itself; slow is a delay
of each fsync. Both are done to the running process from outside and undone in the same way. LMDB's own view of the
disk, the free space that the node looks at beforehand, is not changed by it: what is met here is the write that fails.
"""

import asyncio
import resource
import signal
import struct
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from random import Random

from chaos.cluster import ClusterError, ClusterStatus
from chaos.faults import syscalls
from chaos.faults.kinds import Done, fault
from chaos.faults.processes import kill_for_good
from chaos.site import Site

KIB = 1024
PAGE_BYTES = resource.getpagesize()  # LMDB takes the system's
PAGE_HEAD = struct.Struct("=QHH")  # LMDB's mdb.c, MDB_page: its number, padding, flags
BRANCH, LEAF = 0x01, 0x02
DAMAGED_PAGES = 24
DAMAGED_BYTES = 512
QUARANTINE_TIMEOUT_S = 60.0
LOOK_EVERY_S = 0.2


@fault("disk-full", "a node's database can not grow by more than a little; the write itself fails")
async def disk_full(site: Site, *nodes: str, room_bytes: int = 256 * KIB) -> AsyncIterator[Done]:
    limited = []
    for node in nodes:
        pid = site.pid(node)
        if pid is None:
            raise ClusterError(f"{node} does not run")
        size = _database(site, node).stat().st_size
        limited.append((pid, resource.prlimit(pid, resource.RLIMIT_FSIZE)))
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size + room_bytes, limited[-1][1][1]))
    try:
        yield Done(nodes, f"{room_bytes // KIB} KiB left")
    finally:
        for pid, limits in limited:
            with suppress(ProcessLookupError):  # one that was started anew has no limit
                resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)


@fault("slow-disk", "each fsync of a node lasts longer, as on a disk that is failing or shared", syscalls.missing)
async def slow_disk(site: Site, node: str, delay_s: float) -> AsyncIterator[Done]:
    pid = site.pid(node)
    if pid is None:
        raise ClusterError(f"{node} does not run")
    slow = syscalls.SlowSyncs(pid, delay_s)
    try:
        await asyncio.to_thread(slow.start)
        yield Done((node,), f"{delay_s * 1000:.0f} ms each")
    finally:
        await asyncio.to_thread(slow.stop)


@fault("corrupt-page", "pages of a node's database are overwritten while it is down; it must notice before it joins")
async def corrupt_page(site: Site, node: str) -> AsyncIterator[Done]:
    """Lasts until the node has quarantined itself; then another takes its place, from its peers."""
    site.signal(node, signal.SIGSTOP)  # so that it writes none of these pages again before it dies
    damaged = await asyncio.to_thread(damage, _database(site, node), site.rng)
    kill_for_good(site, node)
    yield Done((node,), f"pages {', '.join(map(str, damaged))}")

    def quarantined(status: ClusterStatus) -> bool:
        return status.node(node).role == "quarantined"

    await site.expect(quarantined, f"{node} to quarantine itself", node, QUARANTINE_TIMEOUT_S)
    await replace(site, node)


async def replace(site: Site, node: str) -> None:
    """`mailraft cluster replace-node`, and what a second operator does meanwhile: starts the new node."""
    known, folder = site.names, str(site.cluster.folder)
    await asyncio.to_thread(site.cluster.stop_node, node)
    replacing = asyncio.create_task(
        asyncio.to_thread(site.cluster.command, "cluster", "replace-node", folder, node, "--delete-data")
    )
    while not replacing.done():
        for new in site.others(*known, *site.cluster.supervised()):
            await asyncio.to_thread(site.cluster.start_node, new)
            site.history.note("joins", new, f"in place of {node}")
        await asyncio.sleep(LOOK_EVERY_S)
    await replacing
    site.history.note("replaced", node)


def damage(database: Path, rng: Random) -> list[int]:
    """Overwrites the beginnings of some of the pages that make up its trees; which ones."""
    with open(database, "r+b") as file:
        heads = enumerate(iter(lambda: file.read(PAGE_BYTES)[: PAGE_HEAD.size], b""))
        tree = [number for number, head in heads if _is_of_a_tree(number, head)]
        damaged = sorted(rng.sample(tree, min(DAMAGED_PAGES, len(tree))))
        for number in damaged:
            file.seek(number * PAGE_BYTES)
            file.write(rng.randbytes(DAMAGED_BYTES))
    return damaged


def _is_of_a_tree(number: int, head: bytes) -> bool:
    if len(head) < PAGE_HEAD.size:
        return False
    own_number, _, flags = PAGE_HEAD.unpack(head)
    return own_number == number and flags in (BRANCH, LEAF)


def _database(site: Site, node: str) -> Path:
    return site.cluster.data_dir(node) / "data.mdb"
