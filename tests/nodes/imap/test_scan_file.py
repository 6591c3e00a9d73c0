"""Scans in a file: of whatever became of the mailbox and the node, they say what the rows say, or they are not used."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import msgpack
import pytest

from actors.custody import CUSTODY, Redact
from actors.following import CheckpointMoved, EventFollowed
from actors.kind import encode
from actors.mailbox import (
    ChangeFlags,
    CopyMessages,
    DeleteFolder,
    Expunge,
    MailboxFact,
    Mode,
    MoveMessages,
    RedactMessages,
    SpreadFlags,
    counters,
)
from actors.mailbox_overview import overview
from actors.mailbox_rows import MAX_UID, messages
from actors.mailbox_terms import FlagsChanged, ManyFlagsChanged
from eventlog.errors import UnknownEvent
from eventlog.record import digest_of
from nodes.imap import cache_file, folders, scan_file, scans, scans_ahead
from nodes.imap.node_wide import node_wide
from nodes.imap.scan import Scan
from nodes.redaction import plan_message
from tests.nodes.imap.client import RawClient
from tests.nodes.imap.node import ADMIN, PASSWORD, Node, User

MODES: tuple[Mode, ...] = ("add", "remove", "replace")
FLAGS = (r"\Seen", r"\Deleted", r"\Flagged", "Work", "$Junk")


@pytest.fixture(autouse=True)
def _small_mailboxes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scans, "LEAST_MESSAGES", 1)


@pytest.fixture
def own_node(tmp_path: Path) -> Iterator[Node]:
    """One that a test may restart."""
    node = Node(tmp_path, {})
    yield node
    node.stop()


@contextmanager
def session(node: Node, user: User) -> Iterator[RawClient]:
    client = RawClient(node.port)
    try:
        client.ok(f'LOGIN {user.login} "{PASSWORD}"')
        yield client
    finally:
        client.close()


def by_rows(node: Node, user: User, folder_id: bytes) -> list[tuple[int, tuple[str, ...]]]:
    with node.log.snapshot() as snapshot:
        return [(one.uid, one.flags) for one in messages(snapshot.view(user.account), folder_id)]


def by_scan(scan: Scan | None) -> list[tuple[int, tuple[str, ...]]] | None:
    if scan is None:
        return None
    names = list(scan.flag_sets)
    numbers = [int(one) for one in scan.rendered(range(1, len(scan.uids) + 1), lambda one: b"%d" % names.index(one))]
    return [(uid, names[number]) for uid, number in zip(scan.uids, numbers, strict=True)]


def scanned(node: Node, user: User, folder_id: bytes, most: int = 1 << 20) -> Scan:
    scan, first = Scan(), 1
    with node.log.snapshot() as snapshot:
        while first:
            pieces, first = overview(snapshot.view(user.account), folder_id, first, MAX_UID, most)
            scan.take(pieces)
    return scan


def written(node: Node, user: User, folder_id: bytes) -> bytes:
    scan = scanned(node, user, folder_id)
    with node.log.snapshot() as snapshot:
        return scan_file.written(snapshot, counters(snapshot.view(user.account), folder_id), scan)


def read(node: Node, user: User, folder_id: bytes, data: bytes) -> Scan | None:
    with node.log.snapshot() as snapshot:
        return scan_file.read(snapshot, user.account, folder_id, data)


def ask(node: Node, user: User, command: object) -> None:
    node.call(node.runtime.ask(user.account, command, ADMIN._replace(tenant=user.tenant)))  # type: ignore[arg-type]


# -- what is read is what is there


def change_something(node: Node, user: User, ids: list[bytes], chance: random.Random) -> None:
    folder_id, other = chance.sample(ids, 2)
    uids = [uid for uid, _ in by_rows(node, user, folder_id)]
    some = tuple(sorted(chance.sample(uids, min(len(uids), chance.randint(1, 6)))))
    flags = tuple(chance.sample(FLAGS, chance.randint(1, 2)))
    mode = chance.choice(MODES)
    match chance.randrange(8):
        case 0:
            node.deliver(user, *(b"Subject: %d\r\n\r\n" % number for number in range(chance.randint(1, 9))))
        case 1 if uids:
            first, last = sorted(chance.choices(uids, k=2))
            since = chance.choice((None, None, 30))
            ask(node, user, SpreadFlags(folder_id, ((first, last),), mode, flags, since))
        case 2 | 3 if some:
            ask(node, user, ChangeFlags(folder_id, some, mode, flags, None))
        case 4 if some:
            ask(node, user, ChangeFlags(folder_id, some, "add", (r"\Deleted",), None))
            ask(node, user, Expunge(folder_id, some))
        case 5 | 6 if some:
            ask(node, user, CopyMessages(folder_id, some, other))
        case 7 if some:
            ask(node, user, MoveMessages(folder_id, some, chance.choice((folder_id, other))))


@pytest.mark.parametrize("seed", range(6))
def test_after_any_history_a_scan_that_was_written_before_says_what_the_rows_say(node: Node, seed: int) -> None:
    chance, user = random.Random(seed), node.add_user()
    with session(node, user) as client:
        client.ok("CREATE other")
    ids = [node.folder_id(user, name) for name in ("INBOX", "other")]
    node.deliver(user, *(b"Subject: %d\r\n\r\n" % number for number in range(20)))
    kept = {one: written(node, user, one) for one in ids}
    for step in range(60):
        change_something(node, user, ids, chance)
        for one, data in kept.items():
            rows = by_rows(node, user, one)
            assert by_scan(read(node, user, one, data)) == rows, (seed, step)
            assert by_scan(scanned(node, user, one, chance.choice((3, 40)))) == rows, (seed, step)
        if chance.random() < 0.1:
            kept = {one: written(node, user, one) for one in ids}


def test_a_message_whose_text_was_redacted_is_the_new_one_that_it_became(node: Node, user: User) -> None:
    node.deliver(user, b"Subject: one\r\n\r\n", b"Subject: two\r\n\r\n")
    inbox = node.folder_id(user, "INBOX")
    data = written(node, user, inbox)
    plan = plan_message(node.log.store, digest_of(b"Subject: one\r\n\r\n"), True, lambda done, total: None)
    steps = ((CUSTODY, Redact(plan.events, plan.bodies, "a test")), (user.account, RedactMessages(plan.digest)))
    node.call(node.runtime.transact(steps, ADMIN))
    assert [uid for uid, _ in by_rows(node, user, inbox)] == [2, 3]
    assert by_scan(read(node, user, inbox, data)) in (by_rows(node, user, inbox), None)


def test_every_fact_of_a_mailbox_is_known_to_change_flags_or_not_to() -> None:
    changing = {FlagsChanged, ManyFlagsChanged}
    assert changing.isdisjoint(scan_file.KEEPING_FLAGS)
    assert changing | scan_file.KEEPING_FLAGS == set(get_args(MailboxFact))


def test_a_change_of_flags_that_another_cell_made_counts_as_one() -> None:
    fact = FlagsChanged(b"f" * 16, (3, 4, 9), "add", ("x",), None)
    followed = EventFollowed("cell", 1, 0, 1, fact.TYPE, fact.VERSION, encode(fact))
    assert list(scan_file._flags_changed(followed, b"f" * 16)) == [(3, 3), (4, 4), (9, 9)]
    assert list(scan_file._flags_changed(followed, b"g" * 16)) == []


def test_a_fact_that_is_not_known_to_keep_flags_is_not_passed_over() -> None:
    with pytest.raises(UnknownEvent):
        scan_file._flags_changed(CheckpointMoved("cell", 1, bytes(32), 1), b"f" * 16)


# -- what can not be shown to be right


def packed(*fields: object) -> bytes:
    data: bytes = msgpack.packb(fields)
    return zlib.crc32(data).to_bytes(4, "big") + data


@pytest.mark.parametrize(
    "altered", ["chain", "position", "byte", "short", "flags", "message", "lengths", "nothing", "sets"]
)
def test_a_scan_that_can_not_be_right_is_not_used(node: Node, user: User, altered: str) -> None:
    node.deliver(user, *(b"Subject: %d\r\n\r\n" % number for number in range(5)))
    inbox = node.folder_id(user, "INBOX")
    ask(node, user, ChangeFlags(inbox, (2,), "add", (r"\Seen",), None))
    data = written(node, user, inbox)
    assert read(node, user, inbox, data) is not None
    position, chain, modseq, uidnext, sets, uids, flags = msgpack.unpackb(data[4:], use_list=False)
    match altered:
        case "chain":  # another history
            data = packed(position, bytes(32), modseq, uidnext, sets, uids, flags)
        case "position":  # a later one than this log has
            data = packed(position + 10_000, chain, modseq, uidnext, sets, uids, flags)
        case "byte":
            data = data[:-1] + bytes([data[-1] ^ 1])
        case "short":
            data = data[:20]
        case "flags":  # says that another is seen
            data = packed(position, chain, modseq, uidnext, sets, uids, bytes(len(flags)))
        case "message":
            data = packed(position, chain, modseq, uidnext, sets, uids[4:], flags[2:])
        case "lengths":
            data = packed(position, chain, modseq, uidnext, sets, uids, flags[2:])
        case "nothing":
            data = b""
        case "sets":
            data = packed(position, chain, modseq, uidnext, 7, uids, flags)
    assert read(node, user, inbox, data) is None


def test_where_too_much_happened_since_the_rows_are_read(
    node: Node, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_file, "LEAST_EVENTS", 3)
    inbox = node.folder_id(user, "INBOX")
    node.deliver(user, b"Subject: one\r\n\r\n")
    data = written(node, user, inbox)
    for number in range(3):
        node.deliver(user, b"Subject: more %d\r\n\r\n" % number)
    assert by_scan(read(node, user, inbox, data)) == by_rows(node, user, inbox)
    node.deliver(user, b"Subject: too many\r\n\r\n")
    assert read(node, user, inbox, data) is None


@pytest.mark.parametrize("much", ["new", "changed"])
def test_where_many_messages_came_or_changed_since_the_rows_are_read(
    node: Node, user: User, much: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_file, "MOST_ROWS", 3)
    inbox = node.folder_id(user, "INBOX")
    node.deliver(user, *(b"Subject: %d\r\n\r\n" % number for number in range(5)))
    data = written(node, user, inbox)
    for count, is_used in ((3, True), (1, False)):
        if much == "new":
            node.deliver(user, *(b"Subject: more %d\r\n\r\n" % number for number in range(count)))
        else:
            ask(node, user, ChangeFlags(inbox, tuple(range(1, count + 1)), "add", (f"x{count}",), None))
        rows = by_rows(node, user, inbox)
        assert by_scan(read(node, user, inbox, data)) == (rows if is_used else None)


def test_a_folder_that_went_and_came_again_is_another(node: Node, user: User) -> None:
    with session(node, user) as client:
        client.ok("CREATE other")
        client.append("other", b"Subject: one\r\n\r\n")
        before = node.folder_id(user, "other")
        data = written(node, user, before)
        ask(node, user, DeleteFolder(before))
        assert read(node, user, before, data) is None
        client.ok("CREATE other")
        client.append("other", b"Subject: two\r\n\r\n")
        assert node.folder_id(user, "other") != before


# -- through the node


def reads_rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    read: list[int] = []

    def noted(*arguments: object) -> object:
        read.append(1)
        return overview(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(folders, "overview", noted)
    return read


def test_after_a_restart_a_mailbox_is_selected_without_reading_its_rows_and_with_what_happened_since(
    own_node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, user = own_node, own_node.add_user()
    node.deliver(user, *(b"Subject: %d\r\n\r\n" % number for number in range(9)))
    with session(node, user) as client:
        client.ok("SELECT INBOX")
        client.ok(r"STORE 1:3 FLAGS.SILENT (\Seen Work)")
    node.restart()
    node.deliver(user, b"Subject: later\r\n\r\n")
    ask(node, user, ChangeFlags(node.folder_id(user, "INBOX"), (4,), "add", (r"\Deleted",), None))
    ask(node, user, Expunge(node.folder_id(user, "INBOX"), (4,)))
    read = reads_rows(monkeypatch)
    with session(node, user) as client:
        described = client.ok("SELECT INBOX")
        told = client.ok("FETCH 1:* (UID FLAGS)")
    assert read == []
    assert any(line == b"* 9 EXISTS" for line in described)
    assert [b"Work" in line for line in told] == [True] * 3 + [False] * 6
    assert [int(line.split()[4]) for line in told] == [1, 2, 3, 5, 6, 7, 8, 9, 10]


def test_what_is_redacted_takes_the_file_with_it_and_scans_are_written_again(
    own_node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, user = own_node, own_node.add_user()
    monkeypatch.setattr(cache_file, "WRITE_AFTER_S", 0.0)
    node.deliver(user, b"Subject: one\r\n\r\n", b"Subject: two\r\n\r\n")
    file = node.log.config.data_dir / scan_file.FOLDER / "data.mdb"
    with session(node, user) as client:
        client.ok("SELECT INBOX")
        client.ok("STORE 2 +FLAGS.SILENT (hushhush)")
        node.call(node_wide(node.services).scans.close())
        assert b"hushhush" in file.read_bytes()
        plan = plan_message(node.log.store, digest_of(b"Subject: two\r\n\r\n"), True, lambda done, total: None)
        steps = ((CUSTODY, Redact(plan.events, plan.bodies, "a test")), (user.account, RedactMessages(plan.digest)))
        node.call(node.runtime.transact(steps, ADMIN))
        assert not file.exists() or b"hushhush" not in file.read_bytes()
    node.restart()
    read = reads_rows(monkeypatch)
    with session(node, user) as client:
        assert any(line == b"* 2 EXISTS" for line in client.ok("SELECT INBOX"))
    assert read == []


def test_a_large_mailbox_that_mail_comes_into_is_scanned_before_anybody_selects_it(
    node: Node, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scans_ahead, "AHEAD_MESSAGES", 5)
    node.deliver(user, *(b"Subject: %d\r\n\r\n" % number for number in range(6)))
    kept, inbox = node_wide(node.services).scans, node.folder_id(user, "INBOX")
    while not _is_kept(node, user, inbox):
        node.call(asyncio.sleep(0.01))
    node.deliver(user, b"Subject: one more\r\n\r\n")
    read = reads_rows(monkeypatch)
    with session(node, user) as client:
        assert any(line == b"* 7 EXISTS" for line in client.ok("SELECT INBOX"))
    assert read == []
    assert kept.follows(user.account, inbox)


def _is_kept(node: Node, user: User, folder_id: bytes) -> bool:
    with node.log.snapshot() as snapshot:
        now = counters(snapshot.view(user.account), folder_id)

    async def look() -> bool:
        return node_wide(node.services).scans.get(user.account, folder_id, now.highestmodseq) is not None

    return node.call(look())


def test_a_scan_made_ahead_drives_no_other_out_and_is_in_the_file_alone(
    node: Node, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, inbox = node_wide(node.services).scans, node.folder_id(user, "INBOX")
    monkeypatch.setattr(scans_ahead, "AHEAD_MESSAGES", 5)
    monkeypatch.setattr(kept, "_limit_bytes", 0)
    node.deliver(user, *(b"Subject: %d\r\n\r\n" % number for number in range(6)))

    async def look() -> Scan | None:
        return kept.read(user.account, inbox)

    while (found := node.call(look())) is None:
        node.call(asyncio.sleep(0.01))
    assert by_scan(found) == by_rows(node, user, inbox)
    assert not kept.follows(user.account, inbox)


# -- the file itself

WRITER = """
import asyncio, sys
from pathlib import Path
from nodes.imap import cache_file
cache_file.WRITE_AFTER_S = 0.0

async def main():
    file = cache_file.CacheFile(Path(sys.argv[1]), 1, 0, 1 << 26, 1 << 24)
    number = 0
    while True:
        number += 1
        for key in range(20):
            file.put(b"%d" % key, b"%d " % number * 5000)
        await asyncio.sleep(0.001)
        print(number, flush=True)

asyncio.run(main())
"""


def test_a_node_that_is_killed_while_it_writes_leaves_whole_values(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "f")], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(50):
            process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
    file = cache_file.CacheFile(tmp_path / "f", 1, 0, 1 << 26, 1 << 24)
    values = [file.get(b"%d" % key) for key in range(20)]
    assert all(values)
    for value in values:
        assert value is not None
        assert set(value.split()) == {value.split()[0]}
        assert len(value.split()) == 5000


def test_what_is_put_while_something_is_written_is_written_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_file, "WRITE_AFTER_S", 0.0)

    async def scenario() -> None:
        file = cache_file.CacheFile(tmp_path / "f", 1, 0, 1 << 26, 1 << 24)
        file.put(b"one", b"1")
        while file._writing is None:
            await asyncio.sleep(0)
        file.put(b"two", b"2")
        while file._waiting or file._writing is not None:
            await asyncio.sleep(0.001)

    asyncio.run(scenario())
    file = cache_file.CacheFile(tmp_path / "f", 1, 0, 1 << 26, 1 << 24)
    assert (file.get(b"one"), file.get(b"two")) == (b"1", b"2")
