"""A session with a server, made ready for mail: connection, greeting, TLS as it is demanded.

TLS is opportunistic unless something demands more (RFC 7435): it is used where it is offered, without a question about
the certificate, and a server whose TLS fails gets the mail in clear.
"""

from __future__ import annotations

import ssl

from nodes.config import NodeConfig
from nodes.delivery import dialling
from nodes.delivery.client import Refused, Session
from nodes.delivery.destinations import Host
from nodes.delivery.wire import TlsFailed


class Opener:
    """Opens sessions for one node."""

    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self._unverified = _unverified_context()

    async def open(self, host: Host, left: list[str], pool: str) -> Session:
        """A session over a connection to one of the addresses in `left`; those that are no use are taken out of it.

        Raises PeerFailed.
        """
        session = await self._greeted(host, left, pool)
        if "STARTTLS" not in session.offered:
            return session
        try:
            await session.start_tls(self._unverified, _server_name(host))
        except Refused:
            pass  # it goes on in clear
        except TlsFailed:
            session = await self._greeted(host, [session.address], pool)
        return session

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


def _server_name(host: Host) -> str | None:
    return None if host.is_literal else host.name


def _unverified_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
