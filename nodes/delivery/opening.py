"""A session with a server, made ready for mail: connection, greeting, TLS as it is demanded.

Without a demand TLS is opportunistic (RFC 7435): used where it is offered, whatever the certificate, and a server whose
TLS fails gets the mail in clear. Each session, and each one that failed, is told to whoever makes TLS reports.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from nodes.config.node import NodeConfig
from nodes.delivery import dane, dialling
from nodes.delivery.client import Refused, Session
from nodes.delivery.destinations import Host
from nodes.delivery.login import log_in
from nodes.delivery.routes import Way
from nodes.delivery.tls_policy import Demand
from nodes.delivery.tls_results import FailureType, RecordTlsResult, failure_of
from nodes.delivery.wire import PeerFailed, TlsFailed

HOW = {
    "may": ("nobody", "not verified"),
    "encrypt": ("nobody", "not verified"),
    "verify": ("pkix", "verified by PKIX"),
    "dane": ("dane", "verified by DANE"),
}


class Opener:
    """Opens sessions for one node."""

    def __init__(self, config: NodeConfig, trust: ssl.SSLContext, record: RecordTlsResult) -> None:
        self._config = config
        self._verifying = trust
        self._unverified = unverified_context()
        self._record = record

    async def open(self, host: Host, left: list[str], way: Way, demand: Demand) -> Session:
        """A session over a connection to one of the addresses in `left`; those that are no use are taken out of it.

        Raises PeerFailed.
        """
        session = await self._ready(host, left, way.pool, demand)
        if way.login is not None:
            try:
                await log_in(session, way.login)
            except BaseException:
                session.wire.close()
                raise
        return session

    async def _ready(self, host: Host, left: list[str], pool: str, demand: Demand) -> Session:
        session = await self._greeted(host, left, pool)
        if demand.level == "clear":
            return session
        try:
            await self._secure(session, host, demand)
        except PeerFailed as failure:
            failed = failure
        else:
            self._report(None, session, host, demand)
            return session
        self._report(failed, session, host, demand)
        if demand.strict:
            session.wire.close()
            raise TlsFailed(str(failed))
        if session.wire.is_idle:  # it was only refused
            return session
        weaker = demand._replace(level="may" if demand.level == "verify" else "clear", policy=None)
        return await self._ready(host, [session.address], pool, weaker)

    async def _secure(self, session: Session, host: Host, demand: Demand) -> None:
        """Raises PeerFailed."""
        if "STARTTLS" not in session.offered:
            raise _NotOffered("the server does not offer STARTTLS")
        context = self._verifying if demand.level == "verify" else self._unverified
        asked = demand.names[0] if demand.level == "dane" else host.name  # the TLSA base domain (RFC 7672 8.1)
        await session.start_tls(context, session.address if host.is_literal else asked)
        session.verified, how = HOW[demand.level]
        session.tls += f", {how}"
        if demand.level == "dane":
            secure = session.wire.ssl_object
            try:
                dane.check(demand.tlsa, dane.chain_of(secure) if secure is not None else [], demand.names)
            except TlsFailed:
                session.wire.close()
                raise

    def _report(self, failure: PeerFailed | None, session: Session, host: Host, demand: Demand) -> None:
        """What a domain is told of its hosts; a smart host is nobody's."""
        if not demand.domain:
            return
        kind: FailureType = "" if failure is None else "validation-failure"
        if isinstance(failure, TlsFailed):
            kind = failure_of(failure.error)
        if isinstance(failure, _NotOffered | Refused):
            kind = "starttls-not-supported"
        self._record(demand.result(host.name, session.address, kind, str(failure or "")))

    async def _greeted(self, host: Host, left: list[str], pool: str) -> Session:
        own = dialling.sources(self._config, pool, host.name)
        addresses = tuple(left)
        left.clear()
        wire, address, source = await dialling.dial(addresses, host.port, own, self._config.delivery.connect_timeout_s)
        left.extend(one for one in addresses if one != address)
        session = Session(wire, host.name, self._config.delivery)
        session.address = address
        try:
            await session.greet(source.name if source else self._config.node.hostname)
        except BaseException:
            wire.close()
            raise
        return session


class _NotOffered(TlsFailed):
    """There was nothing to fail."""


def unverified_context() -> ssl.SSLContext:
    """TLS with whoever it is: better than none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def verifying_context(trust: Path | None) -> ssl.SSLContext:
    """TLS with a certificate of a known authority for the name that was asked for. Raises OSError, ssl.SSLError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False
    if trust is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(cafile=trust)
    return context
