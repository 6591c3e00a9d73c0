"""A real cell of one node for front-end tests: event log, actors, listeners, on a loop in a thread of its own.

Clients under test are blocking programs and libraries, so they run in the test's thread. Nothing is faked.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

import structlog
import uvloop

from actors.directory import Directory, account_of
from actors.mailbox import Message, folder_by_name, messages
from actors.queue import Item, items, queue_stream, queues
from actors.registry import fold_event
from actors.runtime import Context, Runtime
from eventlog import levels
from eventlog.log import EventLog, LogConfig
from eventlog.record import By
from eventlog.store import CONFIGS, Store
from nodes import pop3, smtp
from nodes.config.node import ListenerKind, NodeConfig
from nodes.dns import HostNames
from nodes.logins.security import ConnectionLimit, LoginGuard
from nodes.metrics import Metrics
from nodes.past import PastMailboxes
from nodes.reports.collector import Collector
from nodes.resolver import Resolver
from nodes.services import Listener, Services
from nodes.sessions import Sessions
from nodes.signing import Signing, SignSubmissions
from nodes.smtp.checks import Check
from nodes.smtp.completing import CompleteSubmissions
from nodes.smtp.content import Content
from nodes.smtp.server import SmtpListener
from nodes.smtp.session import Envelope
from nodes.tls import contexts as tls
from nodes.tls.files import TlsFiles
from nodes.tls.mail import MailTls

T = TypeVar("T")
ADMIN = Context(By("admin", b"", "test"), "test")
KEY = bytes(range(32))
HOSTNAME = "mx.example.test"
SMTP_KINDS: tuple[ListenerKind, ...] = ("smtp", "submission", "submissions", "lmtp")
POP3_KINDS: tuple[ListenerKind, ...] = ("pop3", "pop3s")


class Cell:
    """One node that takes and serves mail; `port` gives where each listener is."""

    def __init__(
        self,
        folder: Path,
        limits: Mapping[str, Any] | None = None,
        *,
        plaintext: str = "loopback",
        channel_binding: bool = False,
        reserve_bytes: int = 0,
        alone: bool = False,
        dns: Mapping[str, Any] | None = None,
        checks: tuple[Check, ...] | Callable[[Cell], tuple[Check, ...]] = (),
        sections: Mapping[str, Any] | None = None,
    ) -> None:
        """`sections`: further tables of the configuration.

        `alone`: its two peers are not there, so there is no majority; for a folder that was populated before.
        """
        authority = tls.create_authority(folder, "test")
        tls.issue_node(authority, folder, "test", "n1", ["localhost", "127.0.0.1"])
        self.ca = folder / "ca.pem"
        self.config = NodeConfig.model_validate(
            {
                "node": {
                    "name": "n1",
                    "cluster_id": "test",
                    "data_dir": folder / "data",
                    "hostname": "mx.example.test",
                },
                "raft": {"listen": "127.0.0.1:0", "peers": {"n1": "127.0.0.1:1"}, "propose_timeout_s": 2},
                "tls": {"ca": self.ca, "certificate": folder / "node.pem", "key": folder / "node.key"},
                "limits": {"auth_delay_s": 0.05, **(limits or {})},
                "auth": {"plaintext_without_tls": plaintext, "channel_binding": channel_binding},
                "dns": dns or {},
                **(sections or {}),
            }
        )
        self._reserve_bytes = reserve_bytes
        self._alone = alone
        self._checks = checks
        self.loop = uvloop.new_event_loop()
        self.listeners: dict[str, Listener] = {}
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine on the node's loop to its end."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(60)

    def __enter__(self) -> Cell:
        self._thread.start()
        self.call(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self.call(self._stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()

    async def _start(self) -> None:
        data_dir = self.config.node.data_dir
        is_new = not data_dir.exists()
        data_dir.mkdir(exist_ok=True)
        if self._alone and not is_new:
            _forget_members(data_dir)
        server_ssl, client_ssl = tls.raft_contexts(self.config)
        self.log = EventLog.open(
            LogConfig(
                name="n1",
                data_dir=data_dir,
                peers=dict.fromkeys(("n1", "n2", "n3") if self._alone else ("n1",), "127.0.0.1:1"),
                listen="127.0.0.1:0",
                election_timeout_s=(0.05, 0.1),
                heartbeat_s=0.02,
                reserve_bytes=self._reserve_bytes,
            ),
            evolve=fold_event,
            server_ssl=server_ssl,
            client_ssl=client_ssl,
        )
        await self.log.start()
        while is_new and self.log.feature_level < levels.NEWEST and not self._alone:
            await asyncio.sleep(0.005)  # a new cell raises it at once
        self.runtime = Runtime(self.log)
        self.directory = Directory(self.log, self.runtime, KEY)
        self.resolver = Resolver(self.config.dns)
        self.metrics = Metrics("n1")
        self.logger = structlog.wrap_logger(logging.getLogger("test"))
        self.reports = Collector(self.log, self.runtime, self.logger, "n1")
        self.tls = MailTls(TlsFiles(self.config.tls, self.logger), self.log, self.directory, self.metrics, self.logger)
        self.services = Services(
            config=self.config,
            log=self.log,
            runtime=self.runtime,
            directory=self.directory,
            metrics=self.metrics,
            logger=self.logger,
            sessions=Sessions(self.runtime.standings, self.log),
            reports=self.reports,
            tls=self.tls.context,
            login_guard=LoginGuard(self.config.limits),
            connections=ConnectionLimit(self.config.limits),
            resolver=self.resolver,
            host_names=HostNames(self.config.dns, self.resolver),
            past=PastMailboxes(self.log, self.runtime, self.config.node.data_dir / "past", 8.0),
            signing=(signing := Signing(self.log, self.directory)),
            checks=(
                *(self._checks(self) if callable(self._checks) else self._checks),
                CompleteSubmissions(self.log),
                SignSubmissions(signing),
            ),
        )
        for kind in SMTP_KINDS:
            self.listeners[kind] = await smtp.start(self.services, kind, "127.0.0.1:0")
        for kind in POP3_KINDS:
            self.listeners[kind] = await pop3.start(self.services, kind, "127.0.0.1:0")
        if is_new:
            await self._populate()

    async def _populate(self) -> None:
        await self.directory.add_tenant("example", ["example.test"], ADMIN)
        await self.directory.add_account("alice@example.test", "secret of alice", None, ADMIN)
        await self.directory.add_account("bob@example.test", "secret of bob", None, ADMIN)
        await self.directory.add_alias("info@example.test", ["alice@example.test", "bob@example.test"], ADMIN)

    async def _stop(self) -> None:
        for listener in self.listeners.values():
            await listener.stop(0.5)
        await self.tls.stop()
        await self.reports.stop()
        await self.runtime.stop()
        await self.directory.stop()
        await self.log.stop()

    def port(self, kind: str) -> int:
        """The port of a listener on 127.0.0.1."""
        return int(self.listeners[kind].address.rpartition(":")[2])

    def smtp_listener(self, kind: str) -> SmtpListener:
        """The listener itself, to see what it holds."""
        listener = self.listeners[kind]
        assert isinstance(listener, SmtpListener)
        return listener

    def watch_envelopes(self, kind: str) -> list[Envelope]:
        """What the listener's hooks are given from now on, whole, at each message."""
        seen: list[Envelope] = []
        intake = self.smtp_listener(kind).intake
        taken = intake._check_content

        def watched(envelope: Envelope, content: Content) -> None:
            seen.append(envelope)
            taken(envelope, content)

        intake._check_content = watched  # type: ignore[method-assign]
        return seen

    def client_context(self) -> ssl.SSLContext:
        """What a client of this cell trusts."""
        return ssl.create_default_context(cafile=self.ca)

    def until(self, holds: Callable[[], bool], timeout_s: float = 10.0) -> None:
        """Waits until something holds on the node's loop; fails if it does not."""
        deadline_s = time.monotonic() + timeout_s
        while not self.call(_ask(holds)):
            assert time.monotonic() < deadline_s, "it never held"
            time.sleep(0.01)

    def inbox(self, address: str) -> list[tuple[Message, bytes]]:
        """Each message of an INBOX with its body."""
        with self.log.snapshot() as snapshot:
            target = account_of(snapshot, address)
            view = snapshot.view(target.account)
            inbox = folder_by_name(view, "INBOX")
            assert inbox is not None
            found = []
            for message in messages(view, inbox.id):
                body = snapshot.body(target.tenant, message.digest)
                assert body is not None
                found.append((message, body))
            return found

    def queued(self) -> dict[str, list[Item]]:
        """What waits to be sent, by domain."""
        with self.log.snapshot() as snapshot:
            return {name: items(snapshot.view(queue_stream(name))) for name in queues(snapshot)}


async def _ask(holds: Callable[[], bool]) -> bool:
    return holds()


def _forget_members(data_dir: Path) -> None:
    """The log names n1 alone; without that its configuration counts, which names two more that are not there."""
    store = Store(data_dir, 1 << 30)
    with store.env.begin(write=True) as txn:
        txn.drop(store.db[CONFIGS], delete=False)
    store.close()
