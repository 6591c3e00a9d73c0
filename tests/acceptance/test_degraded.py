"""Degraded modes are as declared (nodes/health.py): a clock that is an hour off, and a minority that only reads.

A full disk on one node is the chaos scenario disk-full; filters that are down, tests/nodes/filters/test_node.py.
"""

from __future__ import annotations

import imaplib
import json
import poplib
import re
import smtplib
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from chaos.cluster import Cluster, ClusterStatus
from chaos.faults.clocks import SKEWED
from cli.client import AdminClient
from cli.layout import load
from cli.supervisor import environment, program
from nodes.addresses import split_address
from tests.acceptance.site import ALICE, Site

HOUR_S = 3600.0
LETTER = b"From: a@remote.test\r\nTo: alice@example.test\r\nSubject: %b\r\n\r\nText.\r\n"


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Three nodes, each with a supervisor of its own and a clock that a file shifts."""
    cluster = Cluster(tmp_path_factory.mktemp("cell") / "cluster", apart=True)
    for name in ("n1", "n2", "n3"):
        clock = {"PYTHONPATH": str(SKEWED), "MAILRAFT_CHAOS_CLOCK": str(clock_of(cluster, name))}
        cluster.own_environment[name] = clock
    with cluster:
        yield Site(cluster, cluster.add_accounts("example", (ALICE,)))


def clock_of(cluster: Cluster, name: str) -> Path:
    return cluster.folder / f"{name}.clock"


def mailraft(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(program(*arguments), capture_output=True, text=True, env=environment(), timeout=60)


def health(cluster: Cluster) -> tuple[int, dict[str, Any]]:
    """The exit code and what was said."""
    done = mailraft("cluster", "health", str(cluster.folder), "--json")
    return done.returncode, json.loads(done.stdout) if done.stdout else {}


def until_health(cluster: Cluster, holds: Callable[[dict[str, Any]], object]) -> tuple[int, dict[str, Any]]:
    deadline_s = time.monotonic() + 60
    while True:
        code, said = health(cluster)
        if said and holds(said):
            return code, said
        assert time.monotonic() < deadline_s, said
        time.sleep(0.3)


def has_problem(pattern: str, said: dict[str, Any]) -> bool:
    return any(re.match(pattern, one) for one in said["problems"])


def is_led_by(names: list[str], status: ClusterStatus) -> bool:
    return status.leader in names


def address(site: Site, node: str, use: str) -> tuple[str, int]:
    return split_address(site.cluster.status().node(node).endpoints[use])


def deliver(site: Site, node: str, subject: bytes) -> None:
    with smtplib.SMTP(*address(site, node, "smtp"), local_hostname="mx.remote.test", timeout=30) as client:
        client.sendmail("a@remote.test", [ALICE], LETTER % subject)


def imap(site: Site, node: str) -> imaplib.IMAP4:
    client = imaplib.IMAP4(*address(site, node, "imap"), timeout=30)
    client.login(ALICE, site.password)
    return client


def subjects(client: imaplib.IMAP4) -> list[str]:
    client.select("INBOX", readonly=True)
    _, found = client.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
    return [str(one[1]).split("Subject: ")[1].split("\\r")[0] for one in found if isinstance(one, tuple)]


def test_a_cluster_with_all_its_nodes_is_healthy(apart: Site) -> None:
    code, said = until_health(apart.cluster, lambda said: said["status"] == "healthy")
    assert (code, said["problems"], said["no_answer"]) == (0, [], {})
    assert sorted(one["role"] for one in said["nodes"]) == ["follower", "follower", "leader"]
    assert {one["name"]: one["standing"] for one in said["parts"]}["consensus"] == "up"
    shown = mailraft("cluster", "health", str(apart.cluster.folder), "--parts")
    assert shown.returncode == 0
    assert "searches read the messages" in shown.stdout


def test_a_clock_that_is_an_hour_off_is_named_and_the_logs_time_does_not_go_back(apart: Site) -> None:
    cluster = apart.cluster
    leader = cluster.wait_ready(60).leader
    assert leader is not None
    for off_s in (HOUR_S, -HOUR_S):  # a leader that is ahead, then one that is behind
        wrong = cluster.wait_ready(60).leader or leader
        deliver(apart, wrong, b"before")
        clock_of(cluster, wrong).write_text(str(off_s))
        code, said = until_health(cluster, partial(has_problem, f"{wrong}: clock: it is 3[56]\\d\\d"))
        assert (code, said["status"]) == (1, "degraded")
        done = mailraft("node", "doctor", "--config", str(cluster.folder / wrong / "mailraft.toml"),
                        "--cluster", str(cluster.folder), "--json")  # fmt: skip
        (found,) = (one for one in json.loads(done.stdout)["findings"] if f"the clock of {wrong} " in one["text"])
        assert (done.returncode, found["status"]) == (1, "error")
        others = [one for one in ("n1", "n2", "n3") if one != wrong]
        cluster.wait_for(partial(is_led_by, others), 60, "another leader")
        deliver(apart, others[0], b"while it is off")
        clock_of(cluster, wrong).write_text("0")
        until_health(cluster, lambda said: said["status"] == "healthy")
    records = AdminClient(load(cluster.folder)).get("/v1/log?last=20")["records"]
    times = [one["at"] for one in sorted(records, key=lambda one: one["position"])]
    assert len(times) > 8
    assert times == sorted(times)


def test_a_minority_reads_and_refuses_to_write_and_nothing_is_lost(apart: Site) -> None:
    cluster = apart.cluster
    deliver(apart, "n1", b"taken by a majority")
    cluster.wait_settled()
    for gone in ("n2", "n3"):
        cluster.stop_node(gone)
    code, said = until_health(cluster, lambda said: not said["quorum"]["has"])
    assert (code, said["status"], sorted(said["no_answer"])) == (1, "critical", ["n2", "n3"])
    assert said["problems"][0] == "no quorum: 1 of 3 voters are heard of, and 2 are needed"
    client = imap(apart, "n1")
    before = subjects(client)
    assert before[-1] == "taken by a majority"
    answered, data = client.append("INBOX", "", "", LETTER % b"refused over IMAP")
    assert answered == "NO"
    assert b"[UNAVAILABLE]" in data[0]
    client.select("INBOX")
    answered, data = client.store("1", "+FLAGS", r"(\Flagged)")
    assert answered == "NO"
    assert b"[UNAVAILABLE]" in data[0]
    popper = poplib.POP3(*address(apart, "n1", "pop3"), timeout=30)
    popper.user(ALICE)
    popper.pass_(apart.password)
    assert b"Subject: taken by a majority" in popper.retr(len(before))[1]
    popper.quit()
    with pytest.raises(smtplib.SMTPException) as refused:
        deliver(apart, "n1", b"refused over SMTP")
    assert re.search(r"\b4\d\d\b", str(refused.value))
    for back in ("n2", "n3"):
        cluster.start_node(back)
    until_health(cluster, lambda said: said["status"] == "healthy")
    after = subjects(imap(apart, "n2"))
    assert after[: len(before)] == before
    deliver(apart, "n1", b"taken again")
    assert subjects(imap(apart, "n1"))[-1] == "taken again"
