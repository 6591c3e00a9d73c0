"""Three nodes of real processes, one of which dies while it sends: nothing is lost, what came twice is counted."""

from __future__ import annotations

import json
import os
import re
import signal
import smtplib
import ssl
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chaos.cluster import Cluster
from tests.peers.dns_server import DnsServer
from tests.peers.smtp_peer import SmtpPeer

ALICE = "alice@example.test"
MESSAGES = 150
ZONE = "far.test. MX 10 mx.far.test.\nmx.far.test. A 127.0.0.1"


def slowly(line: str) -> str:
    time.sleep(0.05)  # the peer has one thread: twenty messages a second, so that many are under way for a while
    return "354 Go ahead"


def submit(cluster: Cluster, password: str, count: int) -> None:
    context = ssl.create_default_context(cafile=str(cluster.folder / "ca" / "ca.pem"))
    for endpoint in [node.endpoints["submission"] for node in cluster.status().nodes]:
        host, _, port = endpoint.rpartition(":")
        with smtplib.SMTP(host, int(port)) as client:
            client.starttls(context=context)
            client.login(ALICE, password)
            for number in range(count // 3):
                text = f"From: {ALICE}\r\nMessage-ID: <{port}.{number}@example.test>\r\n\r\nHello\r\n"
                client.sendmail(ALICE, [f"bob{number}@far.test"], text)


def stats(cluster: Cluster) -> dict[str, Any]:
    """Of the one domain that mail goes to."""
    (found,) = json.loads(cluster.command("queue", "stats", "--json"))["domains"]
    return dict(found)


def wait_until(holds: Callable[[], object], timeout_s: float = 60) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.1)


def test_a_sender_that_is_killed_in_mid_queue_loses_nothing_and_duplicates_are_counted(tmp_path: Path) -> None:
    with DnsServer(ZONE) as names, SmtpPeer({"DATA": slowly}) as peer:
        environment = {
            "MAILRAFT_DNS_NAMESERVERS": names.address,
            "MAILRAFT_DELIVERY_PORT": str(peer.port),
            "MAILRAFT_QUEUE_LEASE_S": "4",
            "MAILRAFT_QUEUE_TAKEOVER_S": "1",
        }
        with Cluster(tmp_path / "cluster", environment=environment) as cluster:
            password = cluster.add_accounts("example", (ALICE,))
            cluster.command("queue", "suspend", "--all")
            submit(cluster, password, MESSAGES)
            sender = cluster.status().node("n2").pid
            cluster.command("queue", "resume", "--all")
            wait_until(lambda: len(peer.taken) > MESSAGES // 5)
            os.kill(sender, signal.SIGKILL)
            wait_until(lambda: len(peer.taken) >= MESSAGES and stats(cluster)["items"] == 0)
            week = stats(cluster)["last_7_days"]
        came = Counter(re.findall(rb"Message-ID: (\S+)", b"".join(one.data for one in peer.taken)))
    assert len(came) == MESSAGES
    assert week["delivered"] == MESSAGES
    assert week["taken_over"] > 0
    assert sum(came.values()) - MESSAGES <= week["taken_over"] + week["unknown"]
