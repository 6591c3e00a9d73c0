"""A mailbox of very many messages, and clients that ask for all of it and read nothing.

Twenty thousand messages; a million with `make million`, which prints what it measures. What counts is the
memory that the node has for itself, without pages of the log that the system keeps.
"""

import os
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from tests.nodes.imap.apart import MAP_SIZE_BYTES, MIB, Apart, fill, node_apart, unread
from tests.nodes.imap.client import RawClient

MESSAGES = int(os.environ.get("MAILRAFT_MESSAGES", "20000"))
AT_ONCE = 20_000  # copied by one command
ROOM_BYTES = 48 * MIB  # what answers that nobody reads may cost, the allocator's waste with it
UIDS_BYTES = 8 * MESSAGES  # what a session and its command know of the messages: two numbers of each
SCAN_BYTES = 32 * MESSAGES  # what is known of them for all sessions, and what it takes to gather it
CLIENTS = 4
LOOKED_S = 0.6 if MESSAGES <= AT_ONCE else 6.0

pytestmark = pytest.mark.timeout(300 + MESSAGES // 500)


@pytest.fixture(scope="module")
def huge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    """Its account has a mailbox of very many messages that nobody has opened yet."""
    map_size_bytes = MAP_SIZE_BYTES + 4096 * MESSAGES
    with node_apart(tmp_path_factory.mktemp("huge"), map_size_bytes) as apart:
        _fill(apart)
        yield apart


def _fill(huge: Apart) -> None:
    """One message is sent, and copied within a mailbox until that has as many as one command copies to the other."""
    client = huge.login()
    client.ok("CREATE Huge")
    client.append("Archive", b"Subject: copied\r\n\r\n" + b"a line of text, and another\r\n" * 800)
    client.ok("SELECT Archive")
    fill(client, "Archive", AT_ONCE)
    begun = time.monotonic()
    for _ in range(MESSAGES // AT_ONCE):
        client.ok(f"COPY 1:{AT_ONCE} Huge")
    _print(f"{MESSAGES} messages were copied", time.monotonic() - begun)
    client.close()


def _print(what: str, seconds: float) -> None:
    print(f"{what}: {seconds * 1000:.1f} ms")


def _timed(client: RawClient, command: str) -> list[bytes]:
    begun = time.monotonic()
    told = client.ok(command)
    _print(command, time.monotonic() - begun)
    return told


def _stalled(huge: Apart, command: str) -> list[RawClient]:
    """Sessions that have asked, and read nothing of the answer."""
    clients = [unread(huge, "Huge") for _ in range(CLIENTS)]
    for client in clients:
        client.send(b"x " + command.encode() + b"\r\n")
    return clients


def _peak_while(huge: Apart, work: Callable[[], object]) -> tuple[int, list[float]]:
    """The most memory above what there was before, and how long each piece of work took, in seconds, sorted."""
    before, most = huge.own_bytes(), 0
    took_s: list[float] = []
    until_s = time.monotonic() + LOOKED_S
    while (begun := time.monotonic()) < until_s:
        work()
        took_s.append(time.monotonic() - begun)
        most = max(most, huge.own_bytes() - before)
    return most, sorted(took_s)


def test_it_is_opened_and_counted_the_first_time_and_again(huge: Apart) -> None:
    client, before = huge.login(), huge.own_bytes()
    print(f"the node's own memory before: {before / MIB:.0f} MiB")
    for command in ("EXAMINE Huge", "EXAMINE Huge", "SELECT Huge"):
        assert b"* %d EXISTS" % MESSAGES in _timed(client, command)
    assert huge.own_bytes() - before < ROOM_BYTES + SCAN_BYTES, f"{huge.own_bytes() / MIB:.0f} MiB"
    print(f"the node's own memory with it open: {huge.own_bytes() / MIB:.0f} MiB")
    for items in ("MESSAGES UNSEEN UIDNEXT SIZE", "RECENT", "DELETED"):
        (line,) = _timed(client, f"STATUS Huge ({items})")
        assert line.startswith(b'* STATUS "Huge" (%b ' % items.split()[0].encode())
    assert b"(MESSAGES %d)" % MESSAGES in client.ok("STATUS Huge (MESSAGES)")[0]
    client.close()


@pytest.mark.parametrize(
    "command",
    ["FETCH 1:* (FLAGS BODY.PEEK[])", "FETCH 1:* (ENVELOPE BODYSTRUCTURE FLAGS)", "UID FETCH 1:* (FLAGS)"],
)
def test_all_of_it_for_clients_that_read_nothing_costs_a_buffer_each_and_others_are_served(
    huge: Apart, command: str
) -> None:
    other = huge.login()
    other.ok("SELECT INBOX")
    before = huge.own_bytes()
    clients = _stalled(huge, command)
    most, noop_s = _peak_while(huge, lambda: other.ok("NOOP"))

    def append() -> None:
        assert other.append("INBOX", b"Subject: meanwhile\r\n\r\nx\r\n").startswith(b"OK ")

    more, append_s = _peak_while(huge, append)
    peak = max(most, more, huge.own_bytes() - before)
    print(f"{command}, {CLIENTS} clients: {peak / MIB:.0f} MiB more than before")
    for name, took_s in (("NOOP", noop_s), ("APPEND", append_s)):
        print(f"  {len(took_s)} {name} meanwhile: median {took_s[len(took_s) // 2] * 1000:.2f} ms", end="")
        print(f", 99% {took_s[len(took_s) * 99 // 100] * 1000:.2f} ms, most {took_s[-1] * 1000:.1f} ms")
    assert peak < ROOM_BYTES + CLIENTS * UIDS_BYTES, f"{peak / MIB:.0f} MiB"
    for client in (*clients, other):
        client.close()


def test_who_reads_at_last_is_told_everything_in_order(huge: Apart) -> None:
    """Of one that stood still, the first; of one that reads, all of it."""
    late = _stalled(huge, "FETCH 1:* (FLAGS BODY.PEEK[])")
    late[0].socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MIB)
    assert [late[0].response().split()[1] for _ in range(10)] == [b"%d" % number for number in range(1, 11)]
    reader = huge.login()
    reader.ok("EXAMINE Huge")
    begun, seen = time.monotonic(), 0
    reader.send(b"y FETCH 1:* (UID)\r\n")
    while not (line := reader.response()).startswith(b"y "):
        seen += 1
        assert line.startswith(b"* %d FETCH " % seen)
    _print(f"{seen} UIDs were read", time.monotonic() - begun)
    assert line.startswith(b"y OK ")
    assert seen == MESSAGES
    for client in (*late, reader):
        client.close()
