"""`mailraft bench log`: three processes with the event log alone: real configuration, mutual TLS, fsync.

Opaque records measure the log; deliveries add decide, body, chain and tables; then the fold from zero and time travel
are measured over what the deliveries left.
"""

import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from actors.registry import fold_event
from chaos.cluster import Cluster, free_base_port
from chaos.history import percentile
from cli.bench.etcd_peer import compare_with_etcd
from cli.bench.members import Members
from cli.bench.results import Row
from eventlog.rebuild import rebuild

NAMES = ("n1", "n2", "n3")
IN_FLIGHT = 256
SIZE_BYTES = 4096
ONE_AT_A_TIME = 500
ACCOUNTS = 16
SETTING = f"three nodes, {IN_FLIGHT} in flight, {SIZE_BYTES} bytes, mutual TLS, fsync on a majority"


def bench_log(records: int, history: int, etcd: bool, say: Callable[[str], None]) -> list[Row]:
    """All rows. Raises MemberError, EtcdError or ClusterError; leaves nothing behind."""
    with _folder() as folder:
        rows = [_disk(folder)]
        with Members(folder, NAMES) as members:
            say("opaque records")
            rows += [*_rates(members, records), *_latencies(members)]
            if etcd:
                say("puts, beside etcd")
                rows += compare_with_etcd(members, folder, NAMES, records)
    with _folder() as folder:
        with Members(folder, NAMES) as members:
            say("deliveries")
            rows += _deliveries(members, records // 2)
            say(f"a mailbox of {history} events")
            address, position = _write_history(members, history)
        say("fold from zero")
        rows.append(_fold(folder / members.leader / "data"))
        say("time travel")
        with Cluster(folder) as cluster:
            rows.append(_as_of(cluster, address, position, history))
    return rows


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="mailraft-bench.")).resolve()
    try:
        arguments = ("--nodes", str(len(NAMES)), "--base-port", str(free_base_port(len(NAMES))))
        Cluster(folder).command("cluster", "init", str(folder), *arguments)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _disk(folder: Path) -> Row:
    """What the disk itself takes to make 4 KiB durable: every other figure rests on it."""
    times = []
    with open(folder / "probe", "wb") as file:
        for _ in range(200):
            file.write(bytes(SIZE_BYTES))
            file.flush()
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - began) * 1000)
    return Row(
        "disk, fdatasync of 4 KiB, median", statistics.median(times), "ms", False, "this machine, before the rest"
    )


def _rates(members: Members, records: int) -> Iterator[Row]:
    load = {"count": records, "in_flight": IN_FLIGHT, "size_bytes": SIZE_BYTES}
    members.ask(members.leader, "opaque", **load | {"count": records // 10})  # connections and caches warm
    yield from _measured(members, "opaque", "log, opaque, at the leader", load)
    share = {"count": records // 2, "in_flight": IN_FLIGHT // 2}
    answers = members.ask_all(members.followers, "opaque", **load | share)
    slowest = max(answer["seconds"] for answer in answers.values())
    yield Row("log, opaque, through the followers", records // 2 * len(answers) / slowest, "records/s", True, SETTING)


def _measured(members: Members, do: str, name: str, load: dict[str, Any]) -> Iterator[Row]:
    """The rate of one load at the leader, and its cost, which can be compared even when the machine is busy."""
    before_s = members.cpu_seconds()
    seconds = members.ask(members.leader, do, **load)["seconds"]
    cost_us = (members.cpu_seconds() - before_s) / load["count"] * 1e6
    yield Row(name, load["count"] / seconds, "records/s", True, SETTING)
    yield Row(f"{name}, CPU", cost_us, "us/record", False, "all three processes, the making of the load included")


def _latencies(members: Members) -> Iterator[Row]:
    for where, name in (("the leader", members.leader), ("a follower", members.followers[0])):
        times = members.ask(name, "latency", count=ONE_AT_A_TIME, size_bytes=SIZE_BYTES)["ms"]
        for label, percent in (("median", 50), ("p95", 95)):
            note = f"{ONE_AT_A_TIME} commits, one at a time"
            yield Row(f"log, one at a time at {where}, {label}", percentile(times, percent), "ms", False, note)


def _deliveries(members: Members, count: int) -> Iterator[Row]:
    targets = members.ask(members.leader, "open", tenant="deliveries", accounts=ACCOUNTS)["targets"]
    load = {"targets": targets, "count": count, "in_flight": IN_FLIGHT, "size_bytes": SIZE_BYTES}
    members.ask(members.leader, "deliver", **load | {"count": count // 10})
    yield from _measured(members, "deliver", "log, MessageDelivered, at the leader", load)
    share = {"count": count // 2, "in_flight": IN_FLIGHT // 2}
    answers = members.ask_all(members.followers, "deliver", **load | share)
    slowest = max(answer["seconds"] for answer in answers.values())
    rate = count // 2 * len(answers) / slowest
    yield Row("log, MessageDelivered, through the followers", rate, "records/s", True, SETTING)


def _write_history(members: Members, events: int) -> tuple[str, int]:
    """(address, position): a mailbox with so many events, and where in the log they end."""
    target = members.ask(members.leader, "open", tenant="history", accounts=1)["targets"][0]
    return target[2], members.ask(members.leader, "history", target=target, events=events)["position"]


def _as_of(cluster: Cluster, address: str, position: int, events: int) -> Row:
    """The command as a user gives it, to nodes that run in full."""
    times = []
    for _ in range(3):
        began = time.perf_counter()
        shown = cluster.command("mailbox", "show", address, "--as-of", f"#{position}", "--json")
        times.append(time.perf_counter() - began)
    count = sum(len(folder["messages"]) for folder in json.loads(shown)["folders"])
    note = f"{events} events folded, {count} messages listed; the whole command, median of {len(times)}"
    return Row("mailbox show --as-of", statistics.median(times), "s", False, note)


def _fold(data_dir: Path) -> Row:
    report = rebuild(data_dir, fold_event)
    return Row("fold from zero", report.events / report.seconds, "events/s", True, f"{report.events} events, one node")
