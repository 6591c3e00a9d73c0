"""The TLS of a node's mail listeners, put together: certificates from the log and from files, tickets, stapling.

Also the watch over all of them: the metric of when each kind expires, and a line in the log at 30, 14, 7 and 1 days.
"""

from __future__ import annotations

import asyncio
import datetime
import hashlib
from typing import TYPE_CHECKING

from actors import acme, certificates
from actors.acme import ACME
from actors.certificates import CERTIFICATES, Stored, certificate_place
from actors.region import REGION, grants
from eventlog.record import NO_TENANT
from nodes.tls.certificates import owner_of
from nodes.tls.files import TlsFiles
from nodes.tls.findings import GRANT, RENEW, of_authorities, of_expiry, of_orders, of_stored
from nodes.tls.front import FrontDoor, Shown
from nodes.tls.stapling import Stapler
from nodes.tls.tickets import Tickets

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from cryptography import x509

    from actors.directory import Directory
    from eventlog.log import EventLog
    from eventlog.store import Snapshot
    from nodes.doctor.finding import Finding
    from nodes.metrics import Metrics
    from nodes.services import Logger

WARNING_DAYS = (30, 14, 7, 1, 0)  # 0: it has expired
LOOK_S = 3600.0
DAY = datetime.timedelta(days=1)


class MailTls:
    """`context` is for the listeners. Raises ssl.SSLError where the files' certificate can not be shown.

    tells: whether this process says which certificates will not last; one of a node's does.
    """

    def __init__(
        self,
        files: TlsFiles,
        log: EventLog,
        directory: Directory,
        metrics: Metrics,
        logger: Logger,
        *,
        tells: bool = True,
    ) -> None:
        self._files = files
        self._log = log
        self._directory = directory
        self._metrics = metrics
        self._logger = logger
        self._tickets = Tickets(directory.derived_key("tls tickets"))
        self._stapler = Stapler(logger)
        self._warned: dict[bytes, int] = {}
        self.front = FrontDoor(self._shown, (self._with_tickets, self._stapler.prepare), self._stapler.forget)
        if not self._tickets_shared:
            logger.warning("session tickets are this node's own: this interpreter's contexts can not be reached")
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(work) for work in (self._stapler.run(), files.watch())]
        if tells:
            self._tasks.append(loop.create_task(self._watch_expiry()))

    @property
    def context(self) -> ssl.SSLContext:
        return self.front.context

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def look(self, now: datetime.datetime) -> None:
        """Sets the metrics, and says which certificates will not last."""
        with self._log.snapshot() as snapshot:
            stored = certificates.all_certificates(snapshot.view(CERTIFICATES))
            followers = _followers(snapshot, now)
        status = self._log.status()
        in_force, *beside = self._files.authorities
        expiry: dict[str, list[datetime.datetime]] = {
            "authority": [in_force.not_valid_after_utc],
            "other_authority": [one.not_valid_after_utc for one in beside],
            "node": [self._files.node.not_after],
            "server": [self._files.server.not_after],
            "given": [_end(one) for one in stored if one.source == "given"],
            "acme": [_end(one) for one in stored if one.source == "acme"],
            "follower": [end for _, end in followers],
        }
        for kind, ends in expiry.items():
            self._metrics.certificate_expiry.labels(kind).set(min(ends).timestamp() if ends else 0)
        for kind, chain in (("node", self._files.node), ("server", self._files.server)):
            self._warn(chain.fingerprint, chain.not_after, now, kind, chain.names)
        for one in stored if status.leader == status.name else ():  # one node tells of what all have
            self._warn(one.fingerprint, _end(one), now, one.source, one.names)

    def findings(self, now: datetime.datetime) -> list[Finding]:
        """What an operator should know of this node's certificates and of those in the log."""
        with self._log.snapshot() as snapshot:
            stored = certificates.all_certificates(snapshot.view(CERTIFICATES))
            kept = acme.managed(snapshot.view(ACME))
            followers = _followers(snapshot, now)
        files = self._files
        found = [
            *of_authorities(files.authorities, now),
            of_expiry("node", files.node.names, files.node.not_after, now, RENEW),
        ]
        if files.server is not files.node:
            found.append(of_expiry("file", files.server.names, files.server.not_after, now, "tls.server_certificate"))
        found += [of_expiry("follower", (name,), end, now, GRANT) for name, end in followers]
        return [*found, *of_stored(stored, now), *of_orders(kept), *self._stapler.findings()]

    def _warn(
        self, fingerprint: bytes, end: datetime.datetime, now: datetime.datetime, kind: str, names: Sequence[str]
    ) -> None:
        """Once for each of the days, however often it is looked."""
        passed = [days for days in WARNING_DAYS if end - now <= days * DAY]
        if passed and self._warned.get(fingerprint, WARNING_DAYS[0] + 1) > passed[-1]:
            self._warned[fingerprint] = passed[-1]
            report = self._logger.error if passed[-1] <= 1 else self._logger.warning
            text = "a certificate has expired" if end <= now else "a certificate expires soon"
            report(text, certificate=kind, names=names, fingerprint=fingerprint.hex()[:16], at=end.isoformat())

    async def _watch_expiry(self) -> None:
        while True:
            try:
                self.look(datetime.datetime.now(datetime.UTC))
            except Exception:
                self._logger.exception("certificates could not be looked after")
            await asyncio.sleep(LOOK_S)

    def _with_tickets(self, context: ssl.SSLContext, _: Sequence[x509.Certificate]) -> None:
        self._tickets_shared = self._tickets.serve(context)

    def _shown(self, name: str | None) -> Shown:
        """As folded now; a certificate of the log that has expired is shown rather than one of another name."""
        with self._log.snapshot() as snapshot:
            view = snapshot.view(CERTIFICATES)
            stored = certificates.shown_for(view, name) if name is not None else None
            owner = stored.tenant if stored is not None else owner_of(snapshot, name or "")
            tenants = (NO_TENANT, owner) if owner != NO_TENANT else (NO_TENANT,)
            trusted = "".join(one.pem for tenant in tenants for one in certificates.client_authorities(view, tenant))
        mark = hashlib.sha256(trusted.encode()).digest() if trusted else b""
        if stored is None:
            chain = self._files.server
            return Shown(chain.fingerprint + mark, chain.chain_pem().decode(), chain.key_pem, trusted)
        return Shown(stored.fingerprint + mark, stored.chain, lambda: self._key(stored), trusted)

    def _key(self, stored: Stored) -> bytes:
        return self._directory.unseal(stored.sealed, certificate_place(stored.fingerprint))


def _followers(snapshot: Snapshot, now: datetime.datetime) -> list[tuple[str, datetime.datetime]]:
    """The grants in force, and until when; those whose time is up are over, as was meant."""
    found = [(one.name, _of_ms(one.expires_ms)) for one in grants(snapshot.view(REGION)) if one.revoked_ms is None]
    return [(name, end) for name, end in found if end > now]


def _end(stored: Stored) -> datetime.datetime:
    return _of_ms(stored.not_after_ms)


def _of_ms(moment_ms: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(moment_ms / 1000, datetime.UTC)
