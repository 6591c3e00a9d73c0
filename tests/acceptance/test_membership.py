"""Nodes that come and go while mail flows: nothing that was answered 250 is lost, doubled, or missing on any member.

One cluster goes through all of it; each test finds the members that the one before it left, and the last one looks at
what they hold.
"""

import json
import os
import signal
import smtplib
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from chaos.cluster import Cluster
from chaos.observation import read_mailbox
from cli.supervisor import environment, program
from eventlog.verify import verify
from tests.acceptance.membership_load import Load
from tests.acceptance.site import ALICE, Site

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Cluster(tmp_path_factory.mktemp("membership") / "cluster") as cluster:
        yield Site(cluster, cluster.add_accounts("example", (ALICE,)))


@pytest.fixture(scope="module")
def load(story: Site) -> Iterator[Load]:
    """Mail to every node that there is, all the time."""
    with Load(story.cluster.folder, ALICE) as load:
        yield load


def names(cluster: Cluster) -> list[str]:
    return [node.name for node in cluster.status().nodes]


def members(cluster: Cluster) -> dict[str, str]:
    """Each node's role, once all are up and one leads."""
    status = cluster.wait_for(lambda status: status.all_ready and status.leader is not None, 60, "all ready")
    return {node.name: node.role for node in status.nodes}


def test_a_fourth_and_a_fifth_node_join_and_vote(story: Site, load: Load) -> None:
    cluster = story.cluster
    load.wait_for(10)
    assert "n4 votes" in run(cluster, "add-node").stderr
    interrupt_adding(cluster, "n5")
    added = json.loads(run(cluster, "add-node", "--json").stdout)
    assert added["name"] == "n5"
    assert [(one["name"], one["voter"]) for one in added["members"]] == [(f"n{i}", True) for i in range(1, 6)]
    assert sorted(members(cluster).values()) == ["follower"] * 4 + ["leader"]
    load.wait_for(10)


def interrupt_adding(cluster: Cluster, name: str) -> None:
    """Ctrl-C as soon as the node is on its way: it has yet to get its data, and the command waits for it."""
    words = program("cluster", "add-node", str(cluster.folder))
    adding = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment())
    wait_until((cluster.folder / name / "node.pid").exists)
    adding.send_signal(signal.SIGINT)
    _, said = adding.communicate(timeout=30)
    assert adding.returncode == 1
    assert f"interrupted: {name} goes on by itself" in said


def run(cluster: Cluster, command: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """`mailraft cluster COMMAND DIR ...`"""
    words = program("cluster", command, str(cluster.folder), *arguments)
    done = subprocess.run(words, capture_output=True, text=True, env=environment(), timeout=90)
    assert done.returncode == 0 or not check, done.stderr
    return done


def test_leadership_is_handed_over(story: Site, load: Load) -> None:
    cluster = story.cluster
    before = cluster.status().leader
    target = next(name for name in names(cluster) if name != before)
    assert f"leader: {target}" in run(cluster, "transfer-leadership", target).stderr
    assert cluster.status().leader == target
    run(cluster, "transfer-leadership")
    assert cluster.status().leader not in (target, None)
    load.wait_for(10)


def test_the_leader_is_removed(story: Site, load: Load) -> None:
    cluster = story.cluster
    leader = cluster.status().leader
    assert leader is not None
    pid = cluster.status().node(leader).pid
    load.wait_for(10)
    assert f"{leader} is out" in run(cluster, "remove-node", leader).stderr
    assert leader not in names(cluster)
    assert (cluster.folder / leader / "data" / "data.mdb").exists()
    assert not Path(f"/proc/{pid}").exists()
    assert "leader" in members(cluster).values()
    assert "removed from the cell" in what_it_says(cluster.folder / leader)
    refused = run(cluster, "add-node", "--name", leader, check=False)
    assert "not used again" in refused.stderr
    load.wait_for(10)


def what_it_says(folder: Path) -> str:
    """Of itself, when it is started."""
    words = program("node", "run", "--config", str(folder / "mailraft.toml"))
    node = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment())
    try:
        assert node.stdout is not None
        return next(line for line in node.stdout if "quarantined" in line)
    finally:
        node.terminate()
        node.communicate(timeout=30)


def test_a_node_that_is_killed_while_it_joins_goes_on(story: Site, load: Load) -> None:
    cluster = story.cluster
    send_much(cluster.status().nodes[0].endpoints["smtp"])
    node = cluster.folder / "n6"
    adding = subprocess.Popen(
        program("cluster", "add-node", str(cluster.folder)), stderr=subprocess.PIPE, text=True, env=environment()
    )
    wait_until((node / "data.joining" / "data.mdb").exists)
    os.kill(int((node / "node.pid").read_text()), signal.SIGKILL)
    assert not (node / "data" / "data.mdb").exists()
    _, said = adding.communicate(timeout=90)
    assert adding.returncode == 0, said
    assert "n6 votes" in said
    assert not (node / "data.joining").exists()
    load.wait_for(10)


def send_much(endpoint: str) -> None:
    """So that a checkpoint takes long enough to be caught in the middle."""
    host, _, port = endpoint.rpartition(":")
    with smtplib.SMTP(host, int(port), timeout=30) as client:
        for number in range(10):
            client.sendmail("a@elsewhere.test", [ALICE], b"X-Attempt: large-%d\r\n\r\n" % number + filler(number))


def filler(number: int) -> bytes:
    return (b"%d " % number + b"x" * 70 + b"\r\n") * 50_000


def wait_until(reached: Callable[[], bool], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_a_dead_node_is_replaced(story: Site, load: Load) -> None:
    cluster = story.cluster
    dead = cluster.status().nodes[0]
    (cluster.folder / dead.name / "mailraft.toml").rename(cluster.folder / dead.name / "gone")  # it can not come back
    os.kill(dead.pid, signal.SIGKILL)
    done = run(cluster, "replace-node", dead.name, "--delete-data", "--json")
    new = json.loads(done.stdout)["name"]
    assert dead.name not in names(cluster)
    assert new in names(cluster)
    assert not (cluster.folder / dead.name).exists()
    assert "no node of this cell any more" in run(cluster, "replace-node", dead.name).stderr
    assert set(members(cluster)) == set(names(cluster))
    load.wait_for(10)


def test_a_node_with_a_damaged_database_is_replaced(story: Site, load: Load) -> None:
    cluster = story.cluster
    hurt = cluster.status().nodes[0]
    with (cluster.data_dir(hurt.name) / "data.mdb").open("r+b") as file:
        file.seek(2 * 4096)
        file.write(os.urandom(8 * MIB))
    with suppress(ProcessLookupError):
        os.kill(hurt.pid, signal.SIGKILL)
    cluster.wait_for(lambda status: status.node(hurt.name).role == "quarantined", 30, "quarantine")
    assert f"try: mailraft cluster replace-node {cluster.folder} {hurt.name}\n" in run(cluster, "status").stdout
    _, votes, out = run(cluster, "replace-node", hurt.name).stderr.splitlines()
    assert " votes; " in votes
    assert out.startswith(f"{hurt.name} is out; ")
    assert hurt.name not in names(cluster)
    assert "quarantined" not in members(cluster).values()
    load.wait_for(10)


def test_a_removal_that_would_leave_no_majority_is_refused(story: Site) -> None:
    cluster = story.cluster
    status = cluster.wait_settled()
    _, *rest = (node.name for node in status.nodes)
    for name in rest[1:]:
        os.kill(status.node(name).pid, signal.SIGSTOP)
    try:
        refused = run(cluster, "remove-node", rest[0], check=False)
        assert refused.returncode in (1, 4)
        assert "no node could do it" in refused.stderr or "answer" in refused.stderr
    finally:
        for name in rest[1:]:
            os.kill(status.node(name).pid, signal.SIGCONT)
    assert rest[0] in names(cluster)
    cluster.wait_settled()


def test_in_the_end_every_member_has_all_that_was_acknowledged_once_and_a_log_that_verifies(
    story: Site, load: Load
) -> None:
    load.stop()
    assert len(load.acknowledged) > 100, load.refusals[-5:]
    nodes = story.cluster.wait_settled().nodes
    assert len({node.chain for node in nodes}) == 1
    for node in nodes:
        held = [copy.identity for copy in read_mailbox(node.endpoints["imap"], ALICE, story.password)]
        assert len(held) == len(set(held))
        assert load.acknowledged <= set(held)
        assert verify(story.cluster.data_dir(node.name)).ok
