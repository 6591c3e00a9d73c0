"""What users see when nodes die, when there is no majority, and when the disk is full."""

import imaplib
import json
import os
import signal
import smtplib
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chaos.cluster import Cluster, ClusterStatus
from cli.supervisor import environment, program
from tests.acceptance.site import ALICE, BOB, Site

MIB = 1024 * 1024


def test_a_short_leader_kill_run_is_clean() -> None:
    done = run_scenario("leader-kill", "--seed", "7", "--duration", "12", "--json")
    report = json.loads(done)
    assert report["ok"], report["checks"]
    assert report["recovery"]["kills"] >= 2
    assert report["recovery"]["never"] == 0
    assert report["attempts"]["acknowledged"] > 100


def test_a_short_partition_of_the_leader_is_clean() -> None:
    report = json.loads(run_scenario("partition-leader", "--seed", "7", "--duration", "4", "--json"))
    assert report["ok"], report["checks"]
    told = [moment["what"] for moment in report["timeline"]]
    assert told.count("partition ends") >= 1
    assert told.count("elected") >= 2


def test_a_running_cluster_is_looked_at_and_nothing_is_written(site: Site) -> None:
    assert send(site.endpoints("smtp")[0], BOB) == 250
    before = site.cluster.wait_settled().nodes[0].applied
    checks = json.loads(run_scenario("--cluster", str(site.cluster.folder), "--read-only-checks", "--json"))
    assert [check["violations"] for check in checks] == [[], [], [], [], []]
    assert site.cluster.wait_settled().nodes[0].applied == before


def run_scenario(*arguments: str) -> str:
    done = subprocess.run(
        program("chaos", "run", *arguments), capture_output=True, text=True, timeout=110, env=environment()
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    return done.stdout


def send(endpoint: str, recipient: str, data: bytes = b"Subject: x\r\n\r\nx\r\n") -> int:
    """The last reply code to one message, whichever command it answers."""
    host, _, port = endpoint.rpartition(":")
    try:
        with smtplib.SMTP(host, int(port), timeout=30) as client:
            client.sendmail("a@elsewhere.test", [recipient], data)
    except smtplib.SMTPRecipientsRefused as refused:
        return next(iter(refused.recipients.values()))[0]
    except smtplib.SMTPResponseException as refused:
        return int(refused.smtp_code)
    return 250


def inbox_size(endpoint: str, account: str, password: str) -> int:
    host, _, port = endpoint.rpartition(":")
    with imaplib.IMAP4(host, int(port), timeout=10) as client:
        client.login(account, password)
        status, count = client.select("INBOX", readonly=True)
        assert status == "OK"
        return int(count[0] or b"0")


@contextmanager
def paused(pids: list[int]) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def others(status: ClusterStatus, name: str) -> list[int]:
    return [node.pid for node in status.nodes if node.name != name]


@pytest.mark.parametrize("left", ["leader", "follower"])
def test_without_a_majority_mail_is_put_off_within_ten_seconds_and_reads_go_on(site: Site, left: str) -> None:
    assert send(site.endpoints("smtp")[0], BOB) == 250
    status = site.cluster.wait_settled()
    node = next(node for node in status.nodes if (node.name == status.leader) == (left == "leader"))
    held = inbox_size(node.endpoints["imap"], BOB, site.password)
    with paused(others(status, node.name)):
        began = time.monotonic()
        assert send(node.endpoints["smtp"], BOB) == 451
        assert time.monotonic() - began < 10
        assert inbox_size(node.endpoints["imap"], BOB, site.password) == held
    site.cluster.wait_settled()
    assert send(node.endpoints["smtp"], BOB) == 250
    # the message that was put off is there once or not at all
    assert inbox_size(node.endpoints["imap"], BOB, site.password) in (held + 1, held + 2)


def test_a_full_disk_puts_mail_off_keeps_what_was_acknowledged_and_ends_with_room(tmp_path: Path) -> None:
    folder = tmp_path / "cluster"
    small = {"MAILRAFT_STORAGE_MAP_SIZE_BYTES": str(48 * MIB), "MAILRAFT_STORAGE_RESERVE_BYTES": str(24 * MIB)}
    with Cluster(folder, environment=small) as cluster:
        password = cluster.add_accounts("example", (ALICE,))
        nodes = cluster.status().nodes
        acknowledged = fill([node.endpoints["smtp"] for node in nodes])
        cluster.wait_settled()
        for node in nodes:
            assert inbox_size(node.endpoints["imap"], ALICE, password) == acknowledged
        expunge_first(nodes[0].endpoints["imap"], password)
    with Cluster(folder) as cluster:
        nodes = cluster.status().nodes
        assert send(nodes[1].endpoints["smtp"], ALICE) == 250
        cluster.wait_settled()
        assert [inbox_size(node.endpoints["imap"], ALICE, password) for node in nodes] == [acknowledged] * 3


def test_without_any_reserve_nothing_acknowledged_is_lost_and_all_is_well_once_there_is_room(tmp_path: Path) -> None:
    folder = tmp_path / "cluster"
    no_reserve = {"MAILRAFT_STORAGE_MAP_SIZE_BYTES": str(48 * MIB), "MAILRAFT_STORAGE_RESERVE_BYTES": "0"}
    with Cluster(folder, environment=no_reserve) as cluster:
        password = cluster.add_accounts("example", (ALICE,))
        nodes = cluster.status().nodes
        acknowledged = fill([node.endpoints["smtp"] for node in nodes])
        codes = [send(nodes[number % 3].endpoints["smtp"], ALICE) for number in range(12)]  # into the last pages
        assert set(codes) <= {250, 451, 452}
        acknowledged += codes.count(250)
        unknown = 1 + codes.count(451)
        for node in nodes:
            assert inbox_size(node.endpoints["imap"], ALICE, password) <= acknowledged + unknown
    with Cluster(folder) as cluster:
        nodes = cluster.status().nodes
        assert send(nodes[0].endpoints["smtp"], ALICE) == 250
        cluster.wait_settled()
        held = {inbox_size(node.endpoints["imap"], ALICE, password) for node in nodes}
    assert len(held) == 1
    assert acknowledged + 1 <= held.pop() <= acknowledged + 1 + unknown


def fill(endpoints: list[str]) -> int:
    """Sends mail by turns until it is refused for want of space; the number of messages acknowledged before."""
    data = b"Subject: filler\r\n\r\n" + b"0123456789abcdef" * 62 + b"\r\n"
    body = data + (b"x" * 70 + b"\r\n") * 7000
    for number in range(200):
        code = send(endpoints[number % len(endpoints)], ALICE, body + b"%d\r\n" % number)
        if code != 250:
            assert code in (431, 451, 452), code
            return number
    pytest.fail("the disk never became full")


def expunge_first(endpoint: str, password: str) -> None:
    """The reserve is kept for this: a user can make room, and keep a note of it."""
    host, _, port = endpoint.rpartition(":")
    with imaplib.IMAP4(host, int(port), timeout=30) as client:
        client.login(ALICE, password)
        client.select("INBOX")
        assert client.store("1", "+FLAGS", "\\Deleted")[0] == "OK"
        assert client.expunge() == ("OK", [b"1"])
