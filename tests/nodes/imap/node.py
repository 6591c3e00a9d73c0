"""One node with a real log, real actors and an IMAP listener, in a thread of its own; tests are its clients."""

import asyncio
import threading
from collections.abc import Coroutine
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import structlog
import uvloop

from actors.directory import Directory
from actors.mailbox import Deliver, NewMessage, folders, messages
from actors.registry import fold_event
from actors.runtime import Context, NewBody, Runtime
from eventlog import levels
from eventlog.log import EventLog, LogConfig
from eventlog.record import By, digest_of, new_id
from nodes.config.fulltext import FullTextSection
from nodes.config.node import ListenerKind, NodeConfig
from nodes.dns import HostNames
from nodes.fulltext.keeper import FullText
from nodes.imap import start
from nodes.logins.security import ConnectionLimit, LoginGuard
from nodes.metrics import Metrics
from nodes.past import PastMailboxes
from nodes.reports.collector import Collector
from nodes.resolver import Resolver
from nodes.services import Services
from nodes.sessions import Sessions
from nodes.signing import Signing
from nodes.tls.cell_authority import create_authority, issue_node
from nodes.tls.files import TlsFiles
from nodes.tls.mail import MailTls

PASSWORD = "correct horse"
CERTIFICATES = {"ca": "ca.pem", "certificate": "node.pem", "key": "node.key"}
ADMIN = Context(By("admin", b"", "test"), "test")

_T = TypeVar("_T")


class User(NamedTuple):
    login: str
    account: bytes
    tenant: bytes


class Node:
    """Everything that a test asks of the node; `call` runs a coroutine on the node's loop."""

    def __init__(
        self,
        folder: Path,
        limits: dict[str, Any],
        *,
        kind: ListenerKind = "imap",
        policy: str = "loopback",
        index: bool = False,
        sections: dict[str, Any] | None = None,
        map_size_bytes: int = 1 << 30,
    ) -> None:
        self.folder = folder
        self._limits = limits
        self._kind = kind
        self._policy = policy
        self._index = index
        self._sections = sections or {}
        self._map_size_bytes = map_size_bytes
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._names = count()
        self.call(self._start())
        self.call(self.directory.add_tenant("example", ["example.test"], ADMIN))

    def call(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    async def _start(self) -> None:
        address = "127.0.0.1:1"
        if not (self.folder / CERTIFICATES["ca"]).exists():
            issue_node(create_authority(self.folder, "test"), self.folder, "test", "n1", ["localhost", "127.0.0.1"])
        log_config = LogConfig(
            "n1", self.folder / "data", {"n1": address}, address, map_size_bytes=self._map_size_bytes
        )
        self.log = EventLog.open(log_config, evolve=fold_event)
        await self.log.start()
        while self.log.feature_level < levels.NEWEST:  # a new cell raises it at once
            await asyncio.sleep(0.01)
        self.runtime = Runtime(self.log)
        self.directory = Directory(self.log, self.runtime, bytes(32))
        config = NodeConfig.model_validate(
            {
                "node": {"name": "n1", "cluster_id": "test"},
                "raft": {"listen": address, "peers": {"n1": address}},
                "tls": {name: self.folder / file for name, file in CERTIFICATES.items()},
                "auth": {"plaintext_without_tls": self._policy},
                "limits": {"auth_delay_s": 0.01, **self._limits},
                **self._sections,
            }
        )
        section = FullTextSection(index=self._index, delay_s=0, niceness=0)
        self.fulltext = FullText(section, self.log, log_config.data_dir, structlog.get_logger())
        self.fulltext.start()
        self.metrics = Metrics("n1")
        self.files = TlsFiles(config.tls, structlog.get_logger())
        self.tls = MailTls(self.files, self.log, self.directory, self.metrics, structlog.get_logger())
        self.services = Services(
            config=config,
            log=self.log,
            runtime=self.runtime,
            directory=self.directory,
            metrics=self.metrics,
            logger=structlog.get_logger(),
            tls=self.tls.context,
            login_guard=LoginGuard(config.limits),
            connections=ConnectionLimit(config.limits),
            resolver=(resolver := Resolver(config.dns)),
            host_names=HostNames(config.dns, resolver),
            past=PastMailboxes(self.log, self.runtime, self.folder / "past", 8.0),
            signing=Signing(self.log, self.directory),
            sessions=Sessions(self.runtime.standings, self.log),
            reports=Collector(self.log, self.runtime, structlog.get_logger(), "n1"),
            fulltext=self.fulltext,
        )
        self.listener = await start(self.services, self._kind, "127.0.0.1:0")

    async def _stop(self) -> None:
        await self.listener.stop(0.5)
        await self.tls.stop()
        await self.fulltext.stop()
        await self.services.reports.stop()
        await self.services.past.stop()
        await self.runtime.stop()
        await self.directory.stop()
        await self.log.stop()

    def stop(self) -> None:
        self.call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def restart(self) -> None:
        """Another life of the node, on another port."""
        self.call(self._stop())
        self.call(self._start())

    def deliver_without_body(self, user: User) -> None:
        """A message whose body was never stored, as after damage."""
        message = NewMessage(new_id(), digest_of(b"gone"), 4, 1_700_000_000_000)
        deliver = Deliver(message, "INBOX", (), "sender@example.org", user.login, "smtp")
        self.call(self.runtime.ask(user.account, deliver, ADMIN._replace(tenant=user.tenant)))

    def held(self, user: User) -> list[tuple[str, int, tuple[str, ...]]]:
        """Folder, UID and flags of every message, as the tables have it."""
        with self.log.snapshot() as snapshot:
            view = snapshot.view(user.account)
            return [(f.name, m.uid, m.flags) for f in folders(view) for m in messages(view, f.id)]

    def folder_id(self, user: User, name: str) -> bytes:
        with self.log.snapshot() as snapshot:
            return next(one.id for one in folders(snapshot.view(user.account)) if one.name == name)

    def idles(self, user: User, name: str) -> bool:
        """Whether a session of the user idles with this mailbox selected."""
        folder_id = self.folder_id(user, name)
        sessions = self.listener._sessions.values()
        return any(one.idling and one.selected is not None and one.selected.folder.id == folder_id for one in sessions)

    @property
    def port(self) -> int:
        return int(self.listener.address.rpartition(":")[2])

    def add_user(self, quota_bytes: int | None = None) -> User:
        login = f"user{next(self._names)}@example.test"
        account = self.call(self.directory.add_account(login, PASSWORD, quota_bytes, ADMIN))
        found = self.call(self.directory.logins.password(login, PASSWORD, "imap"))
        assert found is not None
        return User(login, account, found.target.tenant)

    def deliver(self, user: User, *messages: bytes, folder: str = "INBOX", trace: bytes = b"") -> None:
        self.call(self._deliver(user, messages, folder, trace))

    async def _deliver(self, user: User, messages: tuple[bytes, ...], folder: str, trace: bytes) -> None:
        context = ADMIN._replace(tenant=user.tenant)
        asked = []
        for data in messages:
            message = NewMessage(new_id(), digest_of(data), len(trace) + len(data), 1_700_000_000_000, trace)
            deliver = Deliver(message, folder, (), "sender@example.org", user.login, "smtp")
            asked.append(self.runtime.ask(user.account, deliver, context, (NewBody(user.tenant, data),)))
        await asyncio.gather(*asked)
