"""Searches of texts on a running cluster: index and scan say the same on every node, also after one was killed."""

import imaplib
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chaos.cluster import Cluster

ANNA = "anna@example.test"
MESSAGES = 30


def test_every_node_finds_what_a_scan_finds_before_and_after_a_kill(tmp_path: Path) -> None:
    with Cluster(
        tmp_path / "cluster", environment={"MAILRAFT_FULLTEXT_DELAY_S": "1", "MAILRAFT_FULLTEXT_NICENESS": "0"}
    ) as cluster:
        password = cluster.add_accounts("example", (ANNA,))
        append(cluster, password, range(MESSAGES))
        wait_indexed(cluster)
        assert answers(cluster, password) == [expected(MESSAGES)] * 3
        victim = next(node for node in cluster.status().nodes if node.role != "leader")
        os.kill(victim.pid, signal.SIGKILL)
        append(cluster, password, range(MESSAGES, 2 * MESSAGES), but=victim.name)
        cluster.wait_settled()
        assert answers(cluster, password) == [expected(2 * MESSAGES)] * 3, "what is not indexed yet is read"
        wait_indexed(cluster)
        assert answers(cluster, password) == [expected(2 * MESSAGES)] * 3
        done = json.loads(cluster.command("search", "rebuild", "--json"))
        assert [one["messages"] for one in done.values()] == [2 * MESSAGES] * 3
        assert answers(cluster, password) == [expected(2 * MESSAGES)] * 3
        assert "indexed to" in cluster.command("search", "status")


def connected(endpoint: str, password: str) -> imaplib.IMAP4:
    host, _, port = endpoint.rpartition(":")
    client = imaplib.IMAP4(host, int(port), timeout=30)
    client.starttls()
    client.login(ANNA, password)
    client.select("INBOX")
    return client


def append(cluster: Cluster, password: str, numbers: range, but: str = "") -> None:
    node = next(node for node in cluster.status().nodes if node.name != but)
    with connected(node.endpoints["imap"], password) as client:
        for number in numbers:
            text = f"Subject: number {number}\r\n\r\n{'a needle in ' if number % 7 == 0 else ''}hay {number}\r\n"
            client.append("INBOX", "", "", text.encode())


Answer = tuple[list[int], list[int], list[int]]


def expected(count: int) -> Answer:
    needles = [number + 1 for number in range(count) if number % 7 == 0]
    return needles, [n for n in range(1, count + 1) if "number 2" in f"number {n - 1}"], needles


def answers(cluster: Cluster, password: str) -> list[Answer]:
    found = []
    for node in cluster.status().nodes:
        with connected(node.endpoints["imap"], password) as client:
            programs = (("TEXT", "needle in"), ("SUBJECT", "number 2"), ("NOT", "NOT", "BODY", "EEDLE"))
            asked = [client.uid("SEARCH", *(f'"{word}"' if " " in word else word for word in one)) for one in programs]
            first, second, third = ([int(uid) for uid in data[0].split()] for _, data in asked)
            found.append((first, second, third))
    return found


def wait_indexed(cluster: Cluster) -> None:
    """Until each node's index has every message."""

    def is_there(nodes: dict[str, Any]) -> bool:
        return all(one and one["position"] >= position and one["messages"] for one in nodes.values())

    position = min(node.applied for node in cluster.status().nodes)
    wait(lambda: is_there(json.loads(cluster.command("search", "status", "--json"))))


def wait(until: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 90
    while not until():
        assert time.monotonic() < deadline_s
        time.sleep(0.3)
