"""A real three-node cluster through the command line: up, looked at, changed, hurt, down."""

import imaplib
import json
import os
import re
import select
import signal
import smtplib
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from chaos.cluster import free_base_port
from cli import layout
from cli.supervisor import environment, program
from eventlog import levels
from nodes.config.node import split_address
from nodes.process import arguments, read_pid
from nodes.tls.contexts import admin_client_context

Done = subprocess.CompletedProcess[str]


def mailraft(*words: str, stdin: str = "", cluster: Path | None = None, timeout_s: float = 90) -> Done:
    env = environment() | ({"MAILRAFT_CLUSTER": str(cluster)} if cluster else {})
    return subprocess.run(program(*words), input=stdin, capture_output=True, text=True, env=env, timeout=timeout_s)


def succeed(*words: str, stdin: str = "", cluster: Path | None = None) -> str:
    done = mailraft(*words, stdin=stdin, cluster=cluster)
    assert done.returncode == 0, done.stderr
    return done.stdout


def processes_of(folder: Path) -> list[int]:
    """Every process whose command line names something in this folder, or the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and any(word.startswith(str(folder)) for word in arguments(int(entry.name))):
            found.append(int(entry.name))
    return found


def wait_for(reached: Callable[[], bool], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def status(folder: Path) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(succeed("cluster", "status", str(folder), "--json"))
    return answer


def node_status(folder: Path, name: str) -> dict[str, Any]:
    return next(node for node in status(folder)["nodes"] if node["name"] == name)


def all_ready(folder: Path) -> bool:
    seen = status(folder)
    return seen["leader"] is not None and all(is_ready(node) for node in seen["nodes"])


def is_ready(node: dict[str, Any]) -> bool:
    """What the node itself says on its HTTP endpoint."""
    try:
        with urlopen(f"http://{node['endpoints']['http']}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cluster that runs, with the tenant example and the account alice@example.test."""
    folder = tmp_path_factory.mktemp("cluster") / "c"
    succeed("cluster", "init", str(folder), "--nodes", "3", "--base-port", str(free_base_port(3)))
    try:
        assert "ready: leader n" in mailraft("cluster", "up", str(folder), "--detach").stderr
        succeed("tenant", "add", "example", "--domain", "example.test", cluster=folder)
        succeed("account", "add", "alice@example.test", "--password-stdin", stdin="wonderland\n", cluster=folder)
        yield folder
    finally:
        mailraft("cluster", "down", str(folder))
        for pid in processes_of(folder):
            os.kill(pid, signal.SIGKILL)


def test_status_gives_every_node_as_the_contract_says(folder: Path) -> None:
    wait_for(lambda: len({node["applied"] for node in status(folder)["nodes"]}) == 1)
    seen = status(folder)
    assert [node["name"] for node in seen["nodes"]] == ["n1", "n2", "n3"]
    assert sorted(node["role"] for node in seen["nodes"]) == ["follower", "follower", "leader"]
    assert [node["name"] for node in seen["nodes"] if node["role"] == "leader"] == [seen["leader"]]
    assert len({node["chain"] for node in seen["nodes"]}) == 1
    for node in seen["nodes"]:
        assert list(node) == ["name", "alive", "pid", "role", "term", "commit", "applied", "chain", "endpoints"]
        assert node["alive"] is True
        assert f"{folder}/{node['name']}/mailraft.toml" in arguments(node["pid"])
        assert re.fullmatch("[0-9a-f]{64}", node["chain"])
        assert node["commit"] >= node["applied"] > 0
        assert set(node["endpoints"]) == set(layout.ENDPOINTS)
        assert all(re.fullmatch(r"127\.0\.0\.1:\d+", address) for address in node["endpoints"].values())


def test_status_for_people_names_the_leader(folder: Path) -> None:
    done = mailraft("cluster", "status", str(folder))
    assert done.returncode == 0
    assert all(name in done.stdout for name in ("n1", "n2", "n3", "leader", "follower"))
    assert f"leader: {status(folder)['leader']}" in done.stderr


def test_a_new_cell_is_at_the_newest_feature_level(folder: Path) -> None:
    def at_newest() -> bool:
        done: dict[str, int] = json.loads(succeed("cluster", "upgrade", str(folder), "--json"))
        return done["before"] == done["level"] == levels.NEWEST

    wait_for(at_newest)
    said = mailraft("cluster", "upgrade", str(folder))
    assert (said.returncode, said.stderr) == (0, f"the cell is at feature level {levels.NEWEST} already\n")


def test_a_second_up_says_that_it_is_running(folder: Path) -> None:
    supervisor = (folder / "supervisor.lock").read_text().strip()
    for words in (("up", str(folder)), ("up", str(folder), "--detach")):
        done = mailraft("cluster", *words)
        assert done.returncode == 1
        assert f"is running already (supervisor pid {supervisor})" in done.stderr


def test_accounts_and_aliases_are_added_listed_and_deleted(folder: Path) -> None:
    succeed(
        "account",
        "add",
        "bob@example.test",
        "--password-stdin",
        "--quota",
        "1000000",
        stdin="bobby tables\n",
        cluster=folder,
    )
    succeed("alias", "add", "info@example.test", "alice@example.test", "bob@example.test", cluster=folder)
    accounts = json.loads(succeed("account", "list", "--json", cluster=folder))["accounts"]
    assert {one["address"]: one["quota_bytes"] for one in accounts} == {
        "alice@example.test": None,
        "bob@example.test": 1000000,
        "postmaster@example.test": None,
    }
    aliases = json.loads(succeed("alias", "list", "--json", cluster=folder))["aliases"]
    assert aliases == [
        {"address": "info@example.test", "targets": ["alice@example.test", "bob@example.test"], "tenant": "example"}
    ]
    succeed("account", "passwd", "bob@example.test", "--password-stdin", stdin="the builder\n", cluster=folder)
    assert "has second.test" in mailraft("tenant", "add-domain", "example", "second.test", cluster=folder).stderr
    assert quota_of(folder, "500 KiB", "bob@example.test may hold 512000 bytes") == 512_000
    assert quota_of(folder, "none", "bob@example.test may hold as much as there is room for") is None
    succeed("alias", "delete", "info@example.test", cluster=folder)
    succeed("account", "delete", "bob@example.test", "--yes", cluster=folder)
    assert "bob@example.test" not in succeed("account", "list", cluster=folder)
    assert json.loads(succeed("tenant", "list", "--json", cluster=folder))["tenants"][0]["domains"] == [
        "example.test",
        "second.test",
    ]
    assert json.loads(succeed("queue", "list", "--json", cluster=folder)) == {"items": []}


def quota_of(folder: Path, size: str, said: str) -> int | None:
    """Bob's limit after `account quota`, as the listing shows it."""
    assert said in mailraft("account", "quota", "bob@example.test", size, cluster=folder).stderr
    accounts = json.loads(succeed("account", "list", "--json", cluster=folder))["accounts"]
    limit: int | None = next(one["quota_bytes"] for one in accounts if one["address"] == "bob@example.test")
    return limit


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("account", "quota", "nobody@example.test", "1 MiB"), "there is no account nobody@example.test"),
        (("alias", "add", "new@example.test", "ghost@example.test"), "nobody has the address ghost@example.test"),
        (("tenant", "add", "example", "--domain", "other.test"), "example is taken"),
        (("tenant", "add", "second", "--domain", "example.test"), "example.test is taken"),
        (("account", "add", "alice@example.test", "--password-stdin"), "alice@example.test is taken"),
        (("account", "add", "x@elsewhere.test", "--password-stdin"), "elsewhere.test is not one of our domains"),
        (("account", "passwd", "nobody@example.test", "--password-stdin"), "there is no account nobody@example.test"),
        (("account", "delete", "postmaster@example.test", "--yes"), "every domain keeps its postmaster"),
        (("alias", "delete", "nobody@example.test"), "there is no alias nobody@example.test"),
        (("account", "list", "--tenant", "nobody"), "there is no tenant nobody"),
        (("mailbox", "show", "nobody@example.test"), "there is no account nobody@example.test"),
        (("mailbox", "show", "alice@example.test", "--as-of", "-2h"), "there was no account alice@example.test then"),
        (("mailbox", "show", "alice@example.test", "--as-of", "#0"), "the log has no position 0"),
        (("mailbox", "show", "alice@example.test", "--as-of", "#999999"), "try: the log goes from 1 to "),
        (("log", "show", "999999"), "the log has no position 999999"),
        (("log", "show", "0"), "the log has no position 0"),
        (("log", "tail", "--node", "n9"), "has no node n9"),
    ],
)
def test_what_can_not_be_done_is_said_and_is_no_success(folder: Path, words: tuple[str, ...], said: str) -> None:
    done = mailraft(*words, stdin="password of it\n", cluster=folder)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def deliver(address: str, subject: str) -> None:
    host, _, port = address.rpartition(":")
    with smtplib.SMTP(host, int(port), timeout=20) as smtp:
        smtp.sendmail("bob@sender.test", ["alice@example.test"], f"Subject: {subject}\r\n\r\nbody\r\n")


def inbox(folder: Path, *options: str) -> list[dict[str, Any]]:
    shown = json.loads(succeed("mailbox", "show", "alice@example.test", "--json", *options, cluster=folder))
    messages: list[dict[str, Any]] = next(f["messages"] for f in shown["folders"] if f["name"] == "INBOX")
    return messages


def test_a_mailbox_is_shown_now_and_as_it_was(folder: Path) -> None:
    before = status(folder)["nodes"][0]["applied"]
    count = len(inbox(folder))
    deliver(node_status(folder, "n2")["endpoints"]["smtp"], "one")
    message = inbox(folder)[-1]
    assert set(message) == {"uid", "flags", "size", "sha256", "internaldate"}
    assert message["flags"] == []
    assert re.fullmatch("[0-9a-f]{64}", message["sha256"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", message["internaldate"])
    assert len(inbox(folder)) == count + 1
    assert len(inbox(folder, "--as-of", f"#{before}")) == count
    assert "INBOX" in succeed("mailbox", "show", "alice@example.test", cluster=folder)


def test_the_log_is_shown_proved_and_folded_again(folder: Path) -> None:
    assert "TenantCreated" in succeed("log", "tail", "-n", "1000", cluster=folder)
    lines = succeed("log", "tail", "-n", "3", "--json", cluster=folder).splitlines()
    position = json.loads(lines[-1])["position"]
    assert json.loads(succeed("log", "show", str(position), "--json", cluster=folder))["position"] == position
    records = [json.loads(line) for line in succeed("log", "tail", "-n", "1000", "--json", cluster=folder).splitlines()]
    made = next(one for one in records if "PasswordSet" in [event["type"] for event in one.get("events", ())])
    shown = succeed("log", "show", str(made["position"]), cluster=folder)
    assert "outcome    committed" in shown
    assert "PasswordSet (version 1)" in shown
    assert "(sealed)" in shown
    proved = json.loads(succeed("log", "verify", "--json", "--node", "n3", cluster=folder))
    assert set(proved) == {"ok", "records", "head", "first_bad", "problems"}
    assert (proved["ok"], proved["first_bad"], proved["problems"]) == (True, None, [])
    said = mailraft("log", "verify", cluster=folder)
    assert re.fullmatch(r"\d+ records, each as it was written; head [0-9a-f]{64}\n", said.stdout), said
    assert json.loads(succeed("log", "rebuild", "--json", cluster=folder))["equal"] is True
    assert not [node for node in ("n1", "n3") if "Traceback" in (folder / node / "node.log").read_text()]


def test_the_log_tells_whose_mail_came_under_which_queue_id(folder: Path) -> None:
    host, port = split_address(node_status(folder, "n1")["endpoints"]["smtp"])
    with smtplib.SMTP(host, port, timeout=20) as smtp:
        smtp.ehlo()
        smtp.mail("bob@sender.test")
        smtp.rcpt("alice@example.test")
        _, said = smtp.data("Subject: traced\r\n\r\nbody\r\n")
    queue_id = said.decode().rpartition(" ")[2]
    line = succeed("log", "tail", "-n", "1", "--node", "n1", cluster=folder)
    assert f"MessageDelivered  <bob@sender.test> -> alice@example.test  id {queue_id}  by smtp" in line
    shown = succeed("log", "show", line.split()[0], cluster=folder)
    assert " of alice@example.test\n" in shown
    assert "  trace            Return-Path: <bob@sender.test>\n                   Received: from " in shown
    succeed("account", "passwd", "alice@example.test", "--password-stdin", stdin="wonderland\n", cluster=folder)
    assert "PasswordSet  alice@example.test  by admin" in succeed("log", "tail", "-n", "1", cluster=folder)


def test_the_log_tells_which_flags_were_changed(folder: Path) -> None:
    seen = node_status(folder, "n1")
    deliver(seen["endpoints"]["smtp"], "flagged")
    with imaplib.IMAP4(*split_address(seen["endpoints"]["imap"]), timeout=20) as imap:
        imap.login("alice@example.test", "wonderland")
        imap.select()
        imap.store("1", "+FLAGS", "(\\Flagged)")
        imap.store("1", "-FLAGS", "(\\Flagged)")
    lines = succeed("log", "tail", "-n", "2", "--type", "FlagsChanged", "--node", "n1", cluster=folder).splitlines()
    assert "alice@example.test  +\\Flagged  UID 1  by imap" in lines[0]
    assert "alice@example.test  -\\Flagged  UID 1  by imap" in lines[1]


def test_the_log_is_followed_until_ctrl_c(folder: Path) -> None:
    words = program("log", "tail", "-n", "0", "--follow", "--json", "--cluster", str(folder))
    with subprocess.Popen(
        words, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        endpoint = node_status(folder, "n3")["endpoints"]["smtp"]
        while not select.select([process.stdout], [], [], 1.0)[0]:  # what came before it follows is not told
            deliver(endpoint, "followed")
        record = json.loads(process.stdout.readline())
        assert [event["type"] for event in record["events"]] == ["MessageDelivered"]
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


def test_a_killed_node_is_shown_dead_and_started_again_by_the_supervisor(folder: Path) -> None:
    wait_for(lambda: all_ready(folder))
    victim = node_status(folder, "n2")
    os.kill(victim["pid"], signal.SIGKILL)
    wait_for(lambda: not node_status(folder, "n2")["alive"], 5)
    deliver(node_status(folder, "n3")["endpoints"]["smtp"], "while n2 is down")
    wait_for(lambda: all_ready(folder))
    again = node_status(folder, "n2")
    assert again["pid"] != victim["pid"]
    assert "n2 was ended by SIGKILL" in (folder / "supervisor.log").read_text()


def test_without_a_majority_writes_are_refused_and_reads_go_on(folder: Path) -> None:
    wait_for(lambda: all_ready(folder))
    paused = [node_status(folder, name)["pid"] for name in ("n2", "n3")]
    try:
        for pid in paused:
            os.kill(pid, signal.SIGSTOP)
        wait_for(lambda: status(folder)["leader"] is None)
        read = mailraft("account", "list", "--json", cluster=folder)
        assert read.returncode == 0
        assert "no majority of the nodes answers" in read.stderr
        write = mailraft("alias", "add", "late@example.test", "alice@example.test", cluster=folder)
        assert write.returncode == 4
        assert "no majority of the cell answers, so nothing was changed" in write.stderr
    finally:
        for pid in paused:
            os.kill(pid, signal.SIGCONT)
    wait_for(lambda: all_ready(folder))


def test_a_peer_of_another_cell_is_refused_and_the_log_says_so(folder: Path, tmp_path: Path) -> None:
    other = layout.create(tmp_path / "other", 1, 20000).nodes[0].folder
    context = admin_client_context(folder / "ca" / "ca.pem", other / "node.pem", other / "node.key")
    address = layout.load(folder).nodes[0].addresses["raft"]
    with socket.create_connection(split_address(address), timeout=5) as plain, context.wrap_socket(plain) as secure:
        with suppress(ssl.SSLError, ConnectionError):
            assert secure.recv(1) == b""
    wait_for(lambda: b"TLS peer refused" in (folder / "n1" / "node.log").read_bytes(), 5)
    assert is_ready(node_status(folder, "n1"))


def test_renewed_certificates_are_taken_over_without_a_restart(folder: Path) -> None:
    before = [node["pid"] for node in status(folder)["nodes"]]
    succeed("cluster", "renew", str(folder))
    wait_for(lambda: all(b"why=SIGHUP" in (folder / n / "node.log").read_bytes() for n in ("n1", "n2", "n3")))
    wait_for(lambda: all_ready(folder))
    assert [node["pid"] for node in status(folder)["nodes"]] == before


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A one-node cluster that is not started; nothing of it is left running."""
    folder = tmp_path / "small"
    succeed("cluster", "init", str(folder), "--nodes", "1", "--base-port", str(free_base_port(1)))
    yield folder
    for pid in processes_of(folder):
        os.kill(pid, signal.SIGKILL)


def test_down_stops_every_process_and_mail_is_still_there_after_up(small: Path) -> None:
    succeed("cluster", "up", str(small), "--detach")
    succeed("tenant", "add", "example", "--domain", "example.test", cluster=small)
    assert "stopped" in mailraft("cluster", "down", str(small)).stderr
    assert processes_of(small) == []
    assert node_status(small, "n1")["alive"] is False
    assert "nothing was running" in mailraft("cluster", "down", str(small)).stderr
    succeed("cluster", "up", str(small), "--detach")
    assert "example.test" in succeed("tenant", "list", cluster=small)
    succeed("cluster", "down", str(small))
    assert processes_of(small) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_in_the_foreground_stops_cleanly_on_a_signal(small: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(
        program("cluster", "up", str(small)), env=environment(), stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    with process.stderr:
        wait_for(lambda: all_ready(small))
        process.send_signal(number)
        assert process.wait(30) == 0
        assert process.stderr.read().splitlines()[-1] == "stopped"
    assert processes_of(small) == []


def test_a_hang_up_of_the_supervisor_renews_certificates_and_stops_nothing(small: Path) -> None:
    succeed("cluster", "up", str(small), "--detach")
    supervisor, node = read_pid(small / "supervisor.lock"), read_pid(small / "n1" / "node.pid")
    assert supervisor is not None
    os.kill(supervisor, signal.SIGHUP)
    wait_for(lambda: b"why=SIGHUP" in (small / "n1" / "node.log").read_bytes(), 10)
    assert read_pid(small / "n1" / "node.pid") == node
    succeed("cluster", "down", str(small))


def test_nodes_end_with_a_supervisor_that_is_killed(small: Path) -> None:
    succeed("cluster", "up", str(small), "--detach")
    supervisor = read_pid(small / "supervisor.lock")
    assert supervisor is not None
    os.kill(supervisor, signal.SIGKILL)
    wait_for(lambda: processes_of(small) == [])
    succeed("cluster", "up", str(small), "--detach")
    succeed("cluster", "down", str(small))


def test_down_ends_a_node_that_was_started_alone_even_one_that_is_paused(small: Path) -> None:
    config = small / "n1" / "mailraft.toml"
    node = subprocess.Popen(
        program("node", "run", "--config", str(config)), env=environment(), stderr=subprocess.DEVNULL
    )
    wait_for(lambda: all_ready(small))
    up = mailraft("cluster", "up", str(small))
    assert (up.returncode, f"running already without a supervisor: n1 (pid {node.pid})" in up.stderr) == (1, True)
    node.send_signal(signal.SIGSTOP)
    assert node_status(small, "n1")["alive"] is True
    assert node_status(small, "n1")["role"] is None
    assert mailraft("cluster", "down", str(small)).returncode == 0
    node.wait(5)


def test_a_pid_file_of_another_process_kills_nobody(small: Path) -> None:
    (small / "n1" / "node.pid").write_text(f"{os.getpid()}\n")
    assert node_status(small, "n1")["alive"] is False
    assert "nothing was running" in mailraft("cluster", "down", str(small)).stderr


def test_ports_in_use_are_named_before_anything_starts(small: Path) -> None:
    address = layout.load(small).nodes[0].addresses["imaps"]
    with closing(socket.create_server(("127.0.0.1", int(address.rpartition(":")[2])))):
        for words in (("up", str(small)), ("up", str(small), "--detach")):
            done = mailraft("cluster", *words)
            assert done.returncode == 1
            assert f"n1: imaps {address}" in done.stderr
            assert "--base-port" in done.stderr


def test_a_node_that_can_not_start_is_reported_with_its_last_words(small: Path) -> None:
    (small / "n1" / "cluster.key").write_text("no key\n")
    done = mailraft("cluster", "up", str(small), "--detach")
    assert done.returncode == 1
    assert "secrets.cluster_key_file" in done.stderr
    assert mailraft("cluster", "down", str(small)).returncode == 0
    assert processes_of(small) == []
