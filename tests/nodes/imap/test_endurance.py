"""What goes on for long, or would be enormous: in a process of its own, so that its memory can be measured.

A client that idles for a day, one that floods, one that stops in mid-literal: the node's memory stays where it was, and
others are served. One that asks for everything and reads nothing: test_million.py.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nodes.imap import idle
from tests.nodes.imap.apart import MIB, Apart, fill, node_apart, unread
from tests.nodes.imap.client import RawClient
from tests.nodes.imap.node import PASSWORD, Node

MESSAGES = 2000  # more than a command of the flood asks for
ROOM_BYTES = 48 * MIB  # what an answer that nobody reads may cost, the allocator's waste with it


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    with node_apart(tmp_path_factory.mktemp("apart")) as found:
        yield found


@pytest.fixture(scope="module")
def filled(apart: Apart) -> Apart:
    """A mailbox of many messages: one is sent, the rest are copies of it."""
    client = apart.login()
    client.append("INBOX", b"Subject: copied\r\n\r\n" + b"a line of text, and another\r\n" * 2300)
    client.ok("SELECT INBOX")
    fill(client, "INBOX", MESSAGES)
    client.close()
    return apart


def peak_while(apart: Apart, work: Callable[[], object]) -> int:
    """The most memory above what there was before, looked at while something else is done."""
    before = apart.resident_bytes()
    deadline, most = time.monotonic() + 2.0, 0
    while time.monotonic() < deadline:
        work()
        most = max(most, apart.resident_bytes() - before)
    return most


def test_a_flood_whose_answers_are_not_read_is_not_read_either(filled: Apart) -> None:
    flood, other = unread(filled, "INBOX"), filled.login()
    flood.socket.settimeout(0.2)
    sent = 0
    lines = b"".join(b"f FETCH 1:1000 (FLAGS UID)\r\n" for _ in range(1000))

    def push() -> None:
        nonlocal sent
        try:
            while sent < 64 * MIB:
                sent += flood.socket.send(lines)
        except TimeoutError:
            pass
        other.ok("NOOP")

    most = peak_while(filled, push)
    assert sent < 16 * MIB, "what is not answered is not taken"
    assert most < ROOM_BYTES, f"{most / MIB:.0f} MiB"
    flood.close()
    other.close()


def test_a_search_with_ten_thousand_terms_is_refused_at_once_and_costs_nothing(filled: Apart) -> None:
    client = filled.login()
    client.ok("SELECT INBOX")
    before = filled.resident_bytes()
    for program in (" ".join(f"BODY word{n}" for n in range(6000)), "OR SEEN " * 10_000 + "SEEN"):
        last = client.command("SEARCH " + program)[-1]
        assert last.startswith((b"NO [LIMIT] ", b"NO [TOOBIG] ")), last
        client = client if last.startswith(b"NO [LIMIT]") else filled.login()
        client.ok("SELECT INBOX")
    assert filled.resident_bytes() - before < ROOM_BYTES
    client.close()


def test_a_day_of_idling_is_told_that_all_is_well_and_then_what_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A day in seconds: what is told each two minutes comes each millisecond, as many times as in a day."""
    a_day = 24 * 60 * 60 / idle.STILL_HERE_S
    monkeypatch.setattr(idle, "STILL_HERE_S", 0.001)
    node = Node(tmp_path, {"imap_idle_s": 600.0})
    user = node.add_user()
    client = RawClient(node.port)
    client.ok(f'LOGIN {user.login} "{PASSWORD}"')
    client.ok("SELECT INBOX")
    client.send(b"i IDLE\r\n")
    assert client.response().startswith(b"+ ")
    told: list[Any] = [client.response() for _ in range(int(a_day))]
    assert set(told) == {b"* OK still here"}
    node.deliver(user, b"Subject: the next morning\r\n\r\nx\r\n")
    while (line := client.response()) == b"* OK still here":
        pass
    assert line == b"* 1 EXISTS"
    client.send(b"DONE\r\n")
    while not client.response().startswith(b"i OK "):
        pass
    client.close()
    node.stop()


def test_whoever_stops_in_the_middle_of_a_literal_holds_what_was_sent_and_no_more(apart: Apart) -> None:
    before = apart.resident_bytes()
    clients = [apart.login() for _ in range(20)]
    for client in clients:
        client.send(b"a APPEND INBOX {900000+}\r\n" + b"x" * 100_000)
    other = apart.login()
    other.ok("NOOP")
    assert apart.resident_bytes() - before < ROOM_BYTES
    for client in clients:
        client.close()
    other.ok("STATUS INBOX (MESSAGES)")
    other.close()
