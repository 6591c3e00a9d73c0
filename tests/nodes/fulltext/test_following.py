"""The index of a running node follows its log, process and all; what searches answer is asked over IMAP."""

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from actors.custody import CUSTODY, Redact
from actors.kind import Command
from actors.mailbox import RedactMessages, folder_by_name
from actors.redaction import PLACEHOLDER
from actors.runtime import NewBody
from eventlog.record import digest_of
from eventlog.store import Store
from nodes import fulltext
from nodes.fulltext import schema, stamp
from nodes.fulltext.shard import Shard
from nodes.imap.search import HeaderHas, TextHas
from nodes.redaction import Plan, plan_message
from tests.nodes.imap.client import RawClient
from tests.nodes.imap.node import ADMIN, PASSWORD, Node, User

WAIT_S = 100


def mail(text: str, subject: str = "subject") -> bytes:
    return f"From: a@example.org\r\nSubject: {subject}\r\n\r\n{text}\r\n".encode()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    running = Node(tmp_path_factory.mktemp("node"), {}, index=True)
    yield running
    running.stop()


@pytest.fixture
def user(node: Node) -> User:
    return node.add_user()


def wait(until: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not until():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def wait_indexed(node: Node) -> None:
    """Until all that has been folded is in the index."""
    position = node.log.status().applied
    wait(lambda: node.fulltext.status().position >= position)


def inbox(node: Node, user: User) -> bytes:
    with node.log.snapshot() as snapshot:
        found = folder_by_name(snapshot.view(user.account), "INBOX")
    assert found is not None
    return found.id


def candidates(node: Node, user: User, key: TextHas | HeaderHas) -> set[int]:
    """What the index lets through of INBOX."""
    return set(node.call(node.fulltext.narrow(user.account, inbox(node, user), [key]))[key].uids)


def search(node: Node, user: User, program: str) -> list[int]:
    client = RawClient(node.port)
    client.ok(f'LOGIN {user.login} "{PASSWORD}"')
    client.ok("SELECT INBOX")
    (line,) = client.ok(f"UID SEARCH {program}")
    client.close()
    return [int(word) for word in line.split()[2:]]


def children() -> list[int]:
    """The processes that index for nodes of this one."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"fulltext" in (folder / "cmdline").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def tell_children(number: signal.Signals) -> None:
    for pid in children():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def test_what_is_delivered_is_indexed_and_what_came_since_is_read(node: Node, user: User) -> None:
    node.deliver(user, *(mail(f"hay {n}" + (" needle" if n % 5 == 0 else "")) for n in range(20)))
    wait_indexed(node)
    assert candidates(node, user, TextHas("needle", True)) == {1, 6, 11, 16}
    tell_children(signal.SIGSTOP)
    try:
        node.deliver(user, mail("a needle that is not indexed yet"))
        assert search(node, user, "TEXT needle") == [1, 6, 11, 16, 21]
        assert search(node, user, "NOT TEXT needle UID 5:8") == [5, 7, 8]
        assert search(node, user, 'OR BODY "hay 3" SUBJECT absent') == [4]
    finally:
        tell_children(signal.SIGCONT)


def test_trace_headers_are_searched_too(node: Node, user: User) -> None:
    node.deliver(user, mail("x"), trace=b"Received: from tracehost.example\r\n")
    node.deliver(user, mail("x"))
    wait_indexed(node)
    assert candidates(node, user, HeaderHas(b"received", "tracehost")) == {1}
    assert search(node, user, "HEADER Received TRACEHOST") == [1]


def test_what_is_expunged_or_moved_leaves_the_index(node: Node, user: User) -> None:
    node.deliver(user, *(mail("needle") for _ in range(4)))
    wait_indexed(node)
    client = RawClient(node.port)
    client.ok(f'LOGIN {user.login} "{PASSWORD}"')
    client.ok("SELECT INBOX")
    client.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
    client.ok("EXPUNGE")
    client.ok("UID MOVE 2 Archive")
    wait_indexed(node)
    wait(lambda: candidates(node, user, TextHas("needle", True)) == {3, 4})
    client.ok("SELECT Archive")
    assert client.ok("SEARCH BODY needle") == [b"* SEARCH 1"]
    client.close()


def test_redacted_text_leaves_the_files_of_the_index(node: Node, user: User) -> None:
    data = mail("xqzvjk never to be seen again", "wkxqzz")
    node.deliver(user, data, mail("something else"))
    wait_indexed(node)
    assert candidates(node, user, TextHas("xqzvjk", False)) == {1}
    before = shard_folder(node, user)
    node.call(redact(node, user, data))
    wait_indexed(node)
    after = shard_folder(node, user)
    assert after != before
    assert not before.exists()
    for term in ("xqz", "qzv", "vjk"):
        assert not Shard(after).mentions("text", term)
    assert not Shard(after).mentions("header", "wkx")
    assert not Shard(after).mentions("digest", digest_of(data).hex())
    assert search(node, user, "TEXT xqzvjk") == []
    assert search(node, user, "BODY redacted") == [3]
    assert search(node, user, "BODY something") == [2]


def shard_folder(node: Node, user: User) -> Path:
    root = node.log.config.data_dir / fulltext.FOLDER
    found = stamp.read(root, schema.VERSION).folder(root, schema.shard_of(user.account))
    assert found is not None
    return found


async def redact(node: Node, user: User, data: bytes) -> None:
    """As nodes/http/redaction.py does it; the plan is made of the node's own database."""
    log = node.log
    plan = await asyncio.to_thread(_plan, log.store, digest_of(data))
    steps: list[tuple[bytes, Command]] = [(CUSTODY, Redact(plan.events, plan.bodies, "test"))]
    steps.append((user.account, RedactMessages(plan.digest, plan.message_ids)))
    await node.runtime.transact(steps, ADMIN, [NewBody(user.tenant, PLACEHOLDER)])


def _plan(store: Store, digest: bytes) -> Plan:
    return plan_message(store, digest, True, lambda done, total: None)


def test_killed_in_the_middle_it_goes_on_where_it_was(node: Node, user: User) -> None:
    node.deliver(user, *(mail(f"number {n} " + "text " * 200) for n in range(300)))
    wait(lambda: bool(children()))
    tell_children(signal.SIGKILL)
    node.deliver(user, mail("another"))
    assert search(node, user, 'BODY "number 299"') == [300]
    wait_indexed(node)
    assert candidates(node, user, TextHas("number 299", False)) == {300}
    assert search(node, user, 'BODY "number 299"') == [300]


def test_it_is_made_anew_while_searches_go_on(node: Node, user: User) -> None:
    node.deliver(user, mail("needle"), mail("hay"))
    wait_indexed(node)
    before = shard_folder(node, user)
    assert node.call(rebuild(node))
    assert search(node, user, "BODY needle") == [1]
    wait(lambda: not before.exists())
    assert shard_folder(node, user) != before
    assert candidates(node, user, TextHas("needle", True)) == {1}
    assert node.fulltext.status().messages > 0


async def rebuild(node: Node) -> bool:
    return node.fulltext.rebuild()


def test_an_index_of_another_history_is_thrown_away(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    first = Node(tmp_path / "first", {}, index=True)
    user = first.add_user()
    first.deliver(user, mail("needle"))
    wait_indexed(first)
    root = first.log.config.data_dir / fulltext.FOLDER
    with first.log.snapshot() as snapshot:
        assert stamp.is_of(stamp.read(root, schema.VERSION), snapshot)
    first.stop()
    moved = tmp_path / "second" / "data" / fulltext.FOLDER
    shutil.copytree(root, moved)
    second = Node(tmp_path / "second", {}, index=True)
    another = second.add_user()
    second.deliver(another, mail("needle"), mail("hay"))
    assert search(second, another, "BODY needle") == [1]
    wait_indexed(second)
    assert second.fulltext.status().messages == 2
    with second.log.snapshot() as snapshot:
        assert stamp.is_of(stamp.read(moved, schema.VERSION), snapshot)
    second.stop()


def test_switched_off_it_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / "data" / fulltext.FOLDER
    folder.mkdir(parents=True)
    (folder / "old").write_bytes(b"text")
    node = Node(tmp_path, {}, index=False)
    assert not folder.exists()
    assert node.fulltext.status().state == "off"
    assert not node.call(rebuild(node))
    user = node.add_user()
    node.deliver(user, mail("needle"))
    assert search(node, user, "BODY needle") == [1]
    node.stop()
