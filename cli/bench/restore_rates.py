"""`mailraft bench restore`: how fast `cluster restore` brings a node's folder back, beside a plain copy of its file.

The log is one of deliveries; the restored cluster has one node, so that all is written once, as by the copy.
"""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chaos.cluster import Cluster, free_base_port
from cli.bench.members import Members
from cli.bench.results import Row

MIB = 1024 * 1024
ACCOUNTS = 16
IN_FLIGHT = 256
NODE = "n1"


def bench_restore(size_bytes: int, message_bytes: int, say: Callable[[str], None]) -> list[Row]:
    """Rows of one run. Raises MemberError, ClusterError or OSError; leaves nothing behind."""
    folder = Path(tempfile.mkdtemp(prefix="mailraft-bench.")).resolve()
    try:
        messages = max(1, size_bytes // message_bytes)
        say(f"{messages} deliveries of {message_bytes} bytes")
        old = _filled(folder / "old", messages, message_bytes)
        say("a plain copy")
        copied_s = _copied(old.data_dir(NODE) / "data.mdb", folder / "copy")
        size = (folder / "copy").stat().st_size / MIB
        (folder / "copy").unlink()
        say("a restore that folds")
        rows = [Row("plain copy of the database", size / copied_s, "MiB/s", True, "written and fsynced")]
        rows += _rows("restore, folded from zero", size, copied_s, *_restored(old, folder / "folded"))
        say("a restore that keeps the tables")
        rows += _rows("restore, tables kept", size, copied_s, *_restored(old, folder / "kept", "--keep-tables"))
        return rows
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _filled(folder: Path, messages: int, message_bytes: int) -> Cluster:
    """A stopped cluster of one node that took so many messages."""
    cluster = Cluster(folder, nodes=1)
    cluster.make()
    with Members(folder, (NODE,)) as members:
        targets = members.ask(NODE, "open", tenant="restore", accounts=ACCOUNTS)["targets"]
        load = {"targets": targets, "count": messages, "in_flight": IN_FLIGHT, "size_bytes": message_bytes}
        members.ask(NODE, "deliver", **load)
    return cluster


def _copied(source: Path, target: Path) -> float:
    """Seconds until a copy of a file is on disk."""
    began_s = time.perf_counter()
    shutil.copyfile(source, target)
    with target.open("rb+") as file:
        os.fsync(file.fileno())
    return time.perf_counter() - began_s


def _restored(old: Cluster, into: Path, *arguments: str) -> tuple[dict[str, Any], float]:
    """What the command said, and the processor time that it took with all of its processes."""
    ports = ("--nodes", "1", "--base-port", str(free_base_port(1)))
    before = os.times()
    said = old.command(
        "cluster", "restore", "--from", str(old.folder), "--into", str(into), *ports, *arguments, "--json"
    )
    after = os.times()
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    answer: dict[str, Any] = json.loads(said)
    return answer, cpu_s


def _rows(name: str, size_mib: float, copied_s: float, restored: dict[str, Any], cpu_s: float) -> list[Row]:
    seconds = restored["seconds"]
    note = f"{restored['position']} positions, {size_mib:.0f} MiB of database; every position proven, on disk"
    return [
        Row(name, size_mib / seconds, "MiB/s", True, note),
        Row(f"{name}, CPU", cpu_s * 1000 / size_mib, "ms/MiB", False, "the whole command"),
        Row(f"{name}, beside the plain copy", copied_s / seconds, "x", True, note),
    ]
