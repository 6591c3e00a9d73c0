"""`bench imap`: every row is told, of our nodes and of Dovecot where that is installed; no process is left behind."""

import os
import shutil
import tempfile
import traceback
from pathlib import Path

import pytest

from chaos.cluster import free_base_port
from cli.bench.dovecot_peer import PASSWORD, PATHS, USER, DovecotPeer, PeerError
from cli.bench.imap_client import NEEDLE, ImapClient, ImapFailed, append_all, fill, message
from cli.bench.imap_idle import idle_memory
from cli.bench.imap_rates import Amounts, Measured, Took, bench_imap
from cli.bench.imap_servers import DOVECOT

NOBODY = 65534
ONE = "one node"
SMALL = Amounts(messages=120, size_bytes=600, large=1500, appends=20, notices=3, idle=0, rounds=1)
STEPS = [
    "FETCH of 120 envelopes, the first time",
    "FETCH of 120 structures, the first time",
    "FETCH of 120 envelopes",
    "FETCH of 120 structures",
    "FETCH of 120 bodies",
    "STORE of 120 flags",
    "SEARCH SUBJECT in 120",
    "SEARCH TEXT in 120",
    "SELECT of 1,500 messages, the first time",
    "SELECT of 1,500 messages",
    "FETCH of 1,500 flags",
    "APPEND of 20, one session",
    "APPEND of 20, 16 sessions",
]

dovecot = shutil.which("dovecot", path=f"{os.environ.get('PATH', '')}:{PATHS}")
needs_dovecot = pytest.mark.skipif(dovecot is None, reason="needs dovecot (Debian: dovecot-imapd)")


def test_each_step_is_told_of_every_server_and_as_a_ratio_where_dovecot_is_there() -> None:
    rows = {row.name: row for row in bench_imap(SMALL, (1,), dovecot is not None, lambda _: None)}
    names = [DOVECOT, ONE] if dovecot is not None else [ONE]
    expected = []
    for step in STEPS:
        expected += [f"{step}, {name}" for name in names]
        expected += [f"{step}, {ONE} against Dovecot"] if dovecot is not None else []
    expected += [f"IDLE notice, {name}" for name in names]
    assert list(rows) == expected
    assert all(row.value > 0 for row in rows.values())
    assert {name for name, row in rows.items() if row.higher_is_better} == {
        name for name in rows if name.endswith("against Dovecot")
    }


def test_a_quick_run_measures_a_tenth_of_what_is_not_named() -> None:
    assert Amounts().quick(()) == Amounts(1000, 4096, 10_000, 100, 5, 1000, 1)
    assert Amounts(messages=70).quick(("messages", "rounds")) == Amounts(70, 4096, 10_000, 100, 5, 1000, 3)


def test_the_memory_of_connections_that_idle_is_told_of_every_server() -> None:
    rows = idle_memory(5, dovecot is not None)
    names = [DOVECOT, ONE] if dovecot is not None else [ONE]
    assert [row.name for row in rows] == [f"Memory of a connection in IDLE, {name}" for name in names]
    assert {(row.unit, row.higher_is_better, row.note) for row in rows} == {("KiB", False, "5 of them")}


def test_the_ratio_is_of_rounds_by_turns_above_one_where_ours_takes_less() -> None:
    measured = Measured([DOVECOT, ONE])
    for theirs_s, ours_s in ((0.2, 0.1), (0.9, 0.3), (0.4, 0.4)):
        measured.add("SELECT", DOVECOT, Took(theirs_s, 0.3))
        measured.add("SELECT", ONE, Took(ours_s, 0.1))
    rows = measured.rows()
    assert [(row.name, round(row.value, 6), row.note) for row in rows] == [
        ("SELECT, Dovecot", 400.0, "CPU 300 ms"),
        ("SELECT, one node", 300.0, "CPU 100 ms"),
        ("SELECT, one node against Dovecot", 2.0, "by CPU 3.00"),
    ]


def test_messages_differ_have_about_their_size_and_one_in_a_hundred_has_the_needle() -> None:
    made = [message(number, 4096) for number in range(200)]
    assert len(set(made)) == 200
    assert all(4000 < len(one) <= 4096 for one in made)
    assert sum(NEEDLE.encode() in one for one in made) == 2


@needs_dovecot
def test_the_client_counts_what_came_and_tells_what_a_server_refuses() -> None:
    with DovecotPeer(free_base_port(1)) as peer:
        clients = [ImapClient(peer.endpoint, USER, PASSWORD) for _ in range(3)]
        fill(clients[0], "INBOX", (message(number, 500) for number in range(25)), at_once=10)
        append_all(clients, "INBOX", [message(number, 500) for number in range(25, 35)])
        clients[0].do("SELECT INBOX")
        received = clients[0].do("FETCH 1:* (BODY.PEEK[])")
        assert received > sum(len(message(number, 500)) for number in range(35))
        with pytest.raises(ImapFailed, match="the server answered"):
            clients[0].do("SELECT nowhere")
        assert peer.cpu_seconds() > 0
        processes = peer.processes()
        assert len(processes) > 1
    assert not any(Path(f"/proc/{process}").exists() for process in processes)


@needs_dovecot
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another")
def test_dovecot_runs_for_an_account_that_is_not_root_too() -> None:
    port = free_base_port(1)
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:  # a process can not take its own rights back
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            tempfile.tempdir = "/tmp"  # where it may write
            with DovecotPeer(port) as peer:
                os.write(tell, b"%d" % ImapClient(peer.endpoint, USER, PASSWORD).do("SELECT INBOX"))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(tell)
    os.waitpid(child, 0)
    with open(told, "rb") as answer:
        assert int(answer.read() or 0) > 0


def test_without_dovecot_the_peer_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("cli.bench.dovecot_peer.PATHS", str(tmp_path))
    with pytest.raises(PeerError, match="apt-get install dovecot-imapd"), DovecotPeer(1):
        pass
