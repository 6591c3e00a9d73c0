"""An attack on an account stands in the log, once for many attempts, and in the metrics."""

import asyncio
import poplib
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import structlog

from actors import credentials
from actors.credentials import LoginsRefused
from actors.directory import account_of
from actors.kind import decode
from actors.runtime import Context
from eventlog.log import EventLog
from eventlog.record import By
from nodes.failures import key_of
from nodes.server import Node
from tests.nodes.conftest import MakeCell
from tests.nodes.policy.trio import trio, until

Run = Callable[[Coroutine[Any, Any, Any]], Any]
ADMIN = Context(By("admin", b"", "test"), "test")
ALICE, PASSWORD = "alice@example.test", "secret of alice"


def answer(port: int, ca: Path, password: str) -> str:
    """What POP3 says to a log-in."""
    client = poplib.POP3_SSL("localhost", port, context=ssl.create_default_context(cafile=ca), timeout=10)
    client.user(ALICE)
    try:
        return client.pass_(password).decode()
    except poplib.error_proto as error:
        return str(error)
    finally:
        client.close()


def guess(port: int, ca: Path, times: int) -> None:
    for _ in range(times):
        answer(port, ca, "a guess")


def bursts(log: EventLog) -> list[LoginsRefused]:
    with log.snapshot() as snapshot:
        events = [event for stored in snapshot.records() if stored.record for event in stored.record.events]
    facts = [decode(event.type, event.version, event.data) for event in events if event.type == LoginsRefused.TYPE]
    return [fact for fact in facts if isinstance(fact, LoginsRefused)]


def test_many_refused_logins_are_one_event_that_counts_them(run: Run, make_cell: MakeCell) -> None:
    cluster, config = make_cell("limits.auth_delay_s=0", "limits.auth_block_after=8")

    async def live() -> None:
        async with Node(config).running() as state:
            async with asyncio.timeout(30):
                while state.unready():
                    await asyncio.sleep(0.05)
            services = state.services
            assert services is not None
            await services.directory.add_tenant("example", ["example.test"], ADMIN)
            await services.directory.add_account(ALICE, PASSWORD, None, ADMIN)
            port = int(cluster.nodes[0].addresses["pop3s"].rpartition(":")[2])
            await asyncio.to_thread(guess, port, config.tls.ca, 12)
            async with asyncio.timeout(30):
                while sum(one.attempts for one in bursts(services.log)) < 5:
                    await asyncio.sleep(0.05)
            (burst,) = bursts(services.log)
            assert 5 <= burst.attempts <= 12
            assert burst.networks == 1
            with services.log.snapshot() as snapshot:
                target = account_of(snapshot, ALICE)
                found = credentials.refused_logins(snapshot.view(target.tenant), target.account)
            assert found.attempts == burst.attempts
            text = services.metrics.exposition().decode()
            labels = 'mailraft_auth_failures_total{mechanism="USER",protocol="pop3s",reason="%s"} '
            assert labels % "wrong" + "8.0" in text
            assert labels % "blocked" + "4.0" in text

    with structlog.testing.capture_logs():
        run(live())


def test_what_was_guessed_at_one_node_is_refused_at_the_others(run: Run, tmp_path: Path) -> None:
    async def live() -> None:
        async with trio(tmp_path / "cell", "limits.auth_delay_s=0", "limits.auth_block_after=4") as nodes:
            first, second, third = (nodes.port(number, "pop3s") for number in range(3))
            assert (await asyncio.to_thread(answer, second, nodes.ca, PASSWORD)).startswith("+OK")
            await asyncio.to_thread(guess, first, nodes.ca, 4)
            failures = nodes.services(2).login_guard.failures
            await until(lambda: failures.count(key_of("pair", "127.0.0.1", ALICE)) >= 4)
            assert "Too many wrong passwords" in await asyncio.to_thread(answer, third, nodes.ca, PASSWORD)

    with structlog.testing.capture_logs():
        run(live())
