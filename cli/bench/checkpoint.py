"""`mailraft bench checkpoint`: how fast a new node gets its database, over mutual TLS on loopback, both ends in full.

One node runs over a database of the wanted size; the process that a joining node starts fetches its checkpoint, writes
it and waits for the disk.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgpack

from chaos.cluster import Cluster
from cli import layout
from cli.bench.results import Row
from eventlog.fold import Fold
from eventlog.journal import KIND_RECORD, Command, LmdbJournal
from eventlog.record import NO_TENANT, Body, By, Event, Record, Stamp, digest_of, encode, new_id, new_salt, stream_id
from eventlog.store import Store
from eventlog.views import View
from nodes.joining import Source, fetch

MIB = 1024 * 1024
BODY_BYTES = 16 * 1024
TICK_RECORDS = 1000
STREAM = stream_id("bench", "checkpoint")
BY = By("node", b"", "bench")
MAP_SIZE_BYTES = 1 << 40


def bench_checkpoint(size_bytes: int, say: Callable[[str], None]) -> list[Row]:
    """Rows of one run. Raises ClusterError, OSError or CheckpointError; leaves nothing behind."""
    folder = Path(tempfile.mkdtemp(prefix="mailraft-bench.")).resolve()
    try:
        cluster = Cluster(folder / "cell", nodes=1)
        with cluster:
            cluster.wait_settled()
        say(f"a database of {size_bytes // MIB} MiB")
        _grow(cluster.data_dir("n1"), size_bytes)
        with cluster:
            say("a checkpoint of it")
            return _fetched(layout.load(cluster.folder), folder / "new" / "data")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _grow(data_dir: Path, size_bytes: int) -> None:
    """Appends and folds records with a body each, as deliveries are, until there are so many bytes of them."""
    with closing(Store(data_dir, MAP_SIZE_BYTES, durable=False)) as store:
        journal = LmdbJournal(store)
        fold = Fold(store, journal, _evolve)
        now_ms, written = int(time.time() * 1000), 0
        while written < size_bytes:
            for _ in range(TICK_RECORDS):
                record, body = _record(now_ms)
                command = Command(KIND_RECORD, now_ms, encode(record), (body,))
                journal.add(command, journal.last_index + 1, journal.last_term)
                written += command.size_bytes
                fold.apply(journal.entry(journal.last_index))
            fold.flush()
            journal.setRaftCommitIndex(journal.last_index)
            store.commit()
        store.env.sync(True)


def _record(now_ms: int) -> tuple[Record, bytes]:
    data = os.urandom(BODY_BYTES)
    event = Event(NO_TENANT, STREAM, "BenchmarkNoted", 1, bytes(msgpack.packb(os.urandom(100))), new_salt())
    body = Body(NO_TENANT, digest_of(data), new_salt(), len(data))
    return Record(new_id(now_ms), now_ms, BY, "benchmark", (), (event,), (body,)), data


def _evolve(view: View, event: Event, stamp: Stamp) -> tuple[Any, Any]:
    view.put(stamp.position.to_bytes(8, "big"), event.data)
    return None, None


def _fetched(cluster: layout.Cluster, path: Path) -> list[Row]:
    admin, node = cluster.folder / "admin", cluster.nodes[0]
    source = Source(
        address=node.addresses["admin"],
        cell_id=cluster.id,
        name="",
        ca=cluster.folder / "ca" / "ca.pem",
        certificate=admin / "admin.pem",
        key=admin / "admin.key",
        map_size_bytes=MAP_SIZE_BYTES,
    )
    done = 0

    def progress(so_far: int, _total: int) -> None:
        nonlocal done
        done = so_far

    began, cpu_s = time.perf_counter(), time.process_time()
    head = fetch(path, source, progress)
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu_s
    note = f"{head.position} positions, {done // MIB} MiB; mutual TLS on loopback, written and fsynced"
    return [
        Row("checkpoint, fetched by a new node", done / MIB / seconds, "MiB/s", True, note),
        Row("checkpoint, CPU of the new node", cpu_s * 1000 / (done / MIB), "ms/MiB", False, note),
    ]
