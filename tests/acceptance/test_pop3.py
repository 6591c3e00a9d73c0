"""POP3 over three nodes: a maildrop that one session has alone is free again soon after its node was killed."""

import hashlib
import os
import poplib
import signal
import smtplib
import time
from pathlib import Path

import pytest

from chaos.cluster import Cluster
from tests.acceptance.site import ALICE, Site

SECRET = "a secret for apop alone"
LEASE_S = 3


def connect(cluster: Cluster, node: int) -> poplib.POP3:
    host, _, port = cluster.status().nodes[node].endpoints["pop3"].rpartition(":")
    return poplib.POP3(host, int(port), timeout=20)


def log_in(client: poplib.POP3, password: str) -> bytes:
    client.user(ALICE)
    return client.pass_(password)


def outcome(client: poplib.POP3, password: str) -> str:
    try:
        return log_in(client, password).decode()
    except poplib.error_proto as error:
        return str(error)


def test_a_maildrop_is_had_alone_at_all_nodes_and_is_free_again_after_kill_9(tmp_path: Path) -> None:
    with Cluster(tmp_path / "cluster", environment={"MAILRAFT_LIMITS_POP3_LEASE_S": str(LEASE_S)}) as cluster:
        password = cluster.add_accounts("example", (ALICE,))
        cluster.command("policy", "set", "example", "pop3_exclusive=on")
        cluster.wait_settled()
        first, second = connect(cluster, 0), connect(cluster, 1)
        assert log_in(first, password).startswith(b"+OK")
        with pytest.raises(poplib.error_proto, match=r"\[IN-USE\]"):
            log_in(second, password)
        os.kill(cluster.status().nodes[0].pid, signal.SIGKILL)
        deadline_s = time.monotonic() + 30
        while "OK" not in (answer := outcome(second, password)):
            assert "[IN-USE]" in answer or "[SYS/TEMP]" in answer  # an election may go on
            assert time.monotonic() < deadline_s
            second.close()
            second = connect(cluster, 1)
            time.sleep(0.2)
        second.quit()


def test_an_operator_allows_apop_gives_a_secret_and_erases_it(site: Site) -> None:
    cluster = site.cluster
    address = "apop@apop.test"
    cluster.add_accounts("apop", (address,))
    cluster.command("policy", "set", "apop", "pop3_apop=on")
    cluster.command("account", "apop", address, "--password-stdin", stdin=SECRET + "\n")
    cluster.wait_settled()
    time.sleep(2.1)  # for as long a node may not have seen that APOP is possible (docs/pop3.md)
    client = connect(cluster, 2)
    timestamp = client.getwelcome().split()[-1].decode()
    digest = hashlib.md5((timestamp + SECRET).encode()).hexdigest()
    assert client._shortcmd(f"APOP {address} {digest}").startswith(b"+OK")  # type: ignore[attr-defined]
    client.quit()
    assert "APOP" in cluster.command("account", "show", address)
    cluster.command("account", "apop", address, "--remove")
    assert "APOP" not in cluster.command("account", "show", address)
    cluster.command("log", "redact", "--apop", "apop", "--reason", "removed", "--yes")
    cluster.command("log", "verify")
    cluster.command("policy", "reset", "apop")


def test_unique_ids_are_the_same_at_every_node_under_another_leader_and_after_kill_9(tmp_path: Path) -> None:
    with Cluster(tmp_path / "cluster") as cluster:
        password = cluster.add_accounts("example", (ALICE,))
        host, _, port = cluster.status().nodes[0].endpoints["lmtp"].rpartition(":")
        with smtplib.LMTP(host, int(port)) as client:
            for number in range(3):
                client.sendmail("x@far.test", [ALICE], f"Subject: {number}\r\n\r\n")
        cluster.wait_settled()

        def unique_ids(node: int) -> list[bytes]:
            client = connect(cluster, node)
            log_in(client, password)
            found = client.uidl()[1]
            client.quit()
            return found

        first = unique_ids(0)
        assert len({line.split()[1] for line in first}) == 3
        assert unique_ids(1) == unique_ids(2) == first
        leader = cluster.status().leader
        assert leader is not None
        os.kill(cluster.status().node(leader).pid, signal.SIGKILL)  # its supervisor starts it again
        cluster.wait_for(lambda status: status.leader not in (None, leader), 30, "another leader")
        cluster.wait_settled()
        assert [unique_ids(node) for node in range(3)] == [first] * 3
