"""One session alone has a maildrop open where its tenant says so, at whichever node; what ends that."""

import asyncio
import ssl
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from actors.directory import Directory, account_of
from actors.tenant_policy import SetMailPolicy, Value
from nodes.pop3.server import Pop3Listener
from tests.nodes.policy.trio import trio
from tests.nodes.smtp.cell import ADMIN, Cell
from tests.nodes.smtp.dialogue import Dialogue

Run = Callable[[Coroutine[Any, Any, Any]], Any]
ALICE, PASSWORD = "alice@example.test", "secret of alice"
IN_USE = b"-ERR [IN-USE] Another session has this maildrop open\r\n"
MESSAGE = b"Subject: one\r\n\r\ntext\r\n"


async def set_policy(directory: Directory, **values: Value) -> None:
    with directory.event_log.snapshot() as snapshot:
        tenant = account_of(snapshot, ALICE).tenant
    await directory.runtime.ask(tenant, SetMailPolicy(tuple(values.items())), ADMIN._replace(tenant=tenant))


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    with Cell(tmp_path_factory.mktemp("exclusive"), {"pop3_lease_s": 1}) as started:
        started.call(set_policy(started.directory, pop3_exclusive="on"))
        yield started


def log_in(port: int, login: str = ALICE, tls: ssl.SSLContext | None = None) -> tuple[Dialogue, bytes]:
    client = Dialogue(port, tls=tls)
    client.send(f"USER {login}\r\nPASS {PASSWORD}\r\n".encode())
    return client, [client.line() for _ in range(3)][2]


def let_in(port: int, within_s: float = 20.0) -> Dialogue:
    """Tries until the maildrop is free."""
    deadline_s = time.monotonic() + within_s
    while True:
        client, answer = log_in(port)
        if answer.startswith(b"+OK"):
            return client
        assert answer == IN_USE
        assert time.monotonic() < deadline_s
        client.close()
        time.sleep(0.05)


def deliver(cell: Cell) -> None:
    client = Dialogue(cell.port("smtp"))
    client.read()
    client.ask("EHLO client.test")
    client.begin(ALICE)
    assert client.transfer(MESSAGE).startswith("250")
    client.close()


def test_the_maildrop_is_free_again_once_quit_is_answered(cell: Cell) -> None:
    for _ in range(3):
        first, answer = log_in(cell.port("pop3"))
        assert answer.startswith(b"+OK")
        assert log_in(cell.port("pop3"))[1] == IN_USE
        assert first.ask("QUIT") == "+OK Bye"


def test_a_session_keeps_it_for_longer_than_a_lease_and_loses_it_with_its_connection(cell: Cell) -> None:
    first, answer = log_in(cell.port("pop3"))
    assert answer.startswith(b"+OK")
    time.sleep(1.5)
    assert log_in(cell.port("pop3"))[1] == IN_USE
    first.close()
    let_in(cell.port("pop3")).ask("QUIT")


def test_what_was_is_looked_at_beside_a_session_that_has_what_is(cell: Cell) -> None:
    first, answer = log_in(cell.port("pop3"))
    assert answer.startswith(b"+OK")
    past, answer = log_in(cell.port("pop3"), f"{ALICE}@@-0s")
    assert b"read-only" in answer
    past.ask("QUIT")
    first.ask("QUIT")


def test_a_session_whose_lease_was_not_renewed_removes_nothing(cell: Cell) -> None:
    deliver(cell)
    late, answer = log_in(cell.port("pop3"))
    assert answer.startswith(b"+OK 1 ")
    late.ask("DELE 1")
    listener = cell.listeners["pop3"]
    assert isinstance(listener, Pop3Listener)
    for connection in listener._connections:
        if connection._maildrop is not None and connection._maildrop.hold is not None:
            cell.loop.call_soon_threadsafe(connection._maildrop.hold.forget)  # as if its node stood still
    other = let_in(cell.port("pop3"))
    assert late.ask("QUIT") == "-ERR [SYS/TEMP] The marked messages may not have been removed"
    assert len(cell.inbox(ALICE)) == 1
    other.ask("DELE 1")
    assert other.ask("QUIT") == "+OK Bye"
    assert cell.inbox(ALICE) == []


def test_sessions_are_as_many_as_come_where_the_tenant_says_nothing(tmp_path: Path) -> None:
    with Cell(tmp_path) as cell:
        assert [log_in(cell.port("pop3"))[1][:3] for _ in range(3)] == [b"+OK"] * 3


def test_rfc_2449_8_1_1_another_node_says_in_use_until_the_session_ends(run: Run, tmp_path: Path) -> None:
    async def live() -> None:
        async with trio(tmp_path / "cell", "limits.pop3_lease_s=5") as nodes:
            await set_policy(nodes.services(0).directory, pop3_exclusive="on")
            await nodes.agree()
            tls = ssl.create_default_context(cafile=nodes.ca)
            here, there = nodes.port(0, "pop3s"), nodes.port(1, "pop3s")
            first, answer = await asyncio.to_thread(log_in, here, ALICE, tls)
            assert answer.startswith(b"+OK")
            assert (await asyncio.to_thread(log_in, there, ALICE, tls))[1] == IN_USE
            assert await asyncio.to_thread(first.ask, "QUIT") == "+OK Bye"
            assert (await asyncio.to_thread(log_in, there, ALICE, tls))[1].startswith(b"+OK")

    with structlog.testing.capture_logs():
        run(live())
