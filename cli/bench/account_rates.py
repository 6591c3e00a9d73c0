"""Many accounts in many tenants: how fast they are made, what they cost while they idle, how long a log-in takes.

Log-in is measured twice for each account: with its argon2 check, and again at once, when the node remembers that the
password was right, so that the difference is argon2 and the second figure everything else.
"""

from __future__ import annotations

import imaplib
import random
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from chaos.cluster import Cluster
from cli.bench.results import Row
from cli.client import AdminClient
from cli.layout import load

AT_ONCE = 200
LOG_INS = 50
PASSWORD = "one password for the benchmark"
ANSWER_S = 120.0
_ANON = re.compile(r"^RssAnon:\s+(\d+) kB", re.M)


def bench_accounts(accounts: int, tenants: int, nodes: int, say: Callable[[str], None]) -> list[Row]:
    """Raises ClusterError, CommandError, OSError."""
    with tempfile.TemporaryDirectory(prefix="mailraft-bench-") as folder:
        with Cluster(Path(folder) / "cluster", nodes=nodes) as cluster:
            client = AdminClient(load(cluster.folder), timeout_s=ANSWER_S)
            names = [f"tenant-{number}" for number in range(tenants)]
            started_s = time.perf_counter()
            for name in names:
                client.change("POST", "/v1/tenants", {"name": name, "domains": [f"{name}.test"]})
            rows = [Row("tenants made", tenants / (time.perf_counter() - started_s), "/s", True)]
            say(f"{tenants} tenants")
            few = min(accounts, max(tenants, AT_ONCE))
            people = [f"u{number}@{names[number % tenants]}.test" for number in range(accounts)]
            people.sort(key=lambda one: one.rpartition("@")[2])
            started_s = time.perf_counter()
            _add(client, people[:few])
            before = _memory_bytes(cluster)
            _add(client, people[few:])
            rows.append(Row("accounts made", accounts / (time.perf_counter() - started_s), "/s", True))
            say(f"{accounts} accounts")
            rows += _memory(before, _memory_bytes(cluster), accounts - few)
            rows += _log_ins(client, cluster, people)
            rows += _pages(client)
    return rows


def _add(client: AdminClient, people: Sequence[str]) -> None:
    for at in range(0, len(people), AT_ONCE):
        batch = [{"address": one} for one in people[at : at + AT_ONCE]]
        client.change("POST", "/v1/accounts/batch", {"accounts": batch})


def _memory_bytes(cluster: Cluster) -> int:
    """Of all nodes together: what is theirs alone, not pages of the database's file."""
    found = 0
    for node in cluster.status().nodes:
        text = Path(f"/proc/{node.pid}/status").read_text()
        anonymous = _ANON.search(text)
        found += int(anonymous[1]) * 1024 if anonymous is not None else 0
    return found


def _memory(before: int, after: int, more: int) -> list[Row]:
    rows = [Row("memory of all nodes, all accounts idle", after / 1e6, "MB", False)]
    if more > 0:
        rows.append(Row("memory for each idle account", max(0, after - before) / more, "bytes", False))
    return rows


def _log_ins(client: AdminClient, cluster: Cluster, people: Sequence[str]) -> list[Row]:
    chosen = random.Random(1).sample(list(people), min(LOG_INS, len(people)))
    host, _, port = cluster.status().nodes[0].endpoints["imap"].rpartition(":")
    first_ms: list[float] = []
    again_ms: list[float] = []
    for address in chosen:
        client.change("PUT", f"/v1/accounts/{address}/password", {"password": PASSWORD})
        for taken_ms in (first_ms, again_ms):
            with imaplib.IMAP4(host, int(port), timeout=30) as session:
                session.starttls()
                started_s = time.perf_counter()
                session.login(address, PASSWORD)
                taken_ms.append((time.perf_counter() - started_s) * 1000)
    return [
        Row("log-in with argon2, median", median(first_ms), "ms", False),
        Row("log-in without argon2, median", median(again_ms), "ms", False),
        Row("log-in without argon2, 95 %", quantiles(again_ms, n=20)[-1], "ms", False),
    ]


def _pages(client: AdminClient) -> list[Row]:
    taken_ms: list[float] = []
    path = "/v1/accounts?limit=100"
    for _ in range(20):
        started_s = time.perf_counter()
        answer: dict[str, Any] = client.get(path)
        taken_ms.append((time.perf_counter() - started_s) * 1000)
        if answer["next"] is None:
            break
        path = f"/v1/accounts?limit=100&after={answer['next']}"
    return [Row("page of 100 accounts, median", median(taken_ms), "ms", False)]
