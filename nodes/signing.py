"""DKIM signatures of mail that leaves us (RFC 6376, RFC 8463): by every active key of the domain in From.

Signatures are header lines in front of the message, made when it is taken in, so that they stand in the log with it and
the client's bytes stay as they were. A message whose author's domain is not one of the sender's tenant is not signed.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

import dkim
import structlog
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from actors.directory import domain_tenant
from actors.dkim import dkim_stream, signing_keys
from actors.errors import InvalidName
from actors.names import normalise_domain
from actors.sealing import SealBroken
from nodes.dkim_keys import place
from nodes.mime import header
from nodes.mime.addresses import addresses
from nodes.smtp.checks import Check, Incoming
from nodes.verdicts.arc import SealingKey
from nodes.verdicts.signed import canonical_body

if TYPE_CHECKING:
    from actors.directory import Directory
    from eventlog.log import EventLog
    from nodes.smtp.session import Envelope, Session

HEADERS_BYTES = 1024 * 1024  # a longer header is not looked through for From
MOST_FROM_BYTES = 16 * 1024  # a longer one is not parsed: it would keep the event loop

_log = structlog.get_logger("mailraft.signing")


class Signer(NamedTuple):
    """A key that is ready to sign."""

    domain: str
    selector: str
    algorithm: str
    private: bytes


class Signing:
    """The signatures of one node's outgoing mail."""

    def __init__(self, log: EventLog, directory: Directory) -> None:
        self._event_log = log
        self._directory = directory
        self._opened: dict[bytes, bytes] = {}  # private keys by what they were sealed as

    async def sign(self, tenant: bytes, data: bytes, domain: str | None = None) -> list[bytes]:
        """Header lines to put in front of the message, each with its CRLF; none where the domain has no keys.

        domain: who signs; otherwise that of the author in From. It must be one of the tenant's.
        """
        domain = domain or author_domain(data)
        signers = self._signers(tenant, domain) if domain else []
        if not signers:
            return []
        return await asyncio.to_thread(_signatures, signers, data)

    def sealing_key(self, tenant: bytes, domain: str) -> SealingKey | None:
        """The RSA key that a domain of the tenant seals forwarded mail with (RFC 8617), if it has one."""
        found = next((one for one in self._signers(tenant, domain) if one.algorithm == "rsa-sha256"), None)
        if found is None:
            return None
        private = load_pem_private_key(found.private, None)
        return SealingKey(domain, found.selector, private) if isinstance(private, RSAPrivateKey) else None

    def _signers(self, tenant: bytes, domain: str) -> list[Signer]:
        with self._event_log.snapshot() as snapshot:
            if domain_tenant(snapshot, domain) != tenant:
                return []
            keys = signing_keys(snapshot.view(dkim_stream(domain)))
        found = []
        for key in keys:
            try:
                private = self._open(domain, key.selector, key.sealed)
            except SealBroken:
                _log.error(
                    "a DKIM key was sealed with another cluster key",
                    code="secret_not_opened",
                    domain=domain,
                    selector=key.selector,
                )
                continue
            found.append(Signer(domain, key.selector, key.algorithm, private))
        return found

    def _open(self, domain: str, selector: str, sealed: bytes) -> bytes:
        private = self._opened.get(sealed)
        if private is None:
            if len(self._opened) >= 1024:
                self._opened.clear()
            private = self._opened[sealed] = self._directory.unseal(sealed, place(domain, selector))
        return private


class SignSubmissions(Check):
    """Signs what a logged-in client submits, once nothing changes it any more: the last of the checks."""

    def __init__(self, signing: Signing) -> None:
        self._signing = signing

    def wants(self, session: Session, envelope: Envelope, incoming: Incoming) -> bool:
        return session.account is not None

    async def message(self, session: Session, envelope: Envelope, incoming: Incoming) -> None:
        if session.account is not None:
            data = incoming.added + incoming.data if incoming.added else incoming.data
            incoming.lines[:0] = await self._signing.sign(session.account.tenant, data)


def author_domain(data: bytes) -> str | None:
    """The domain of the one author in From, normalised; None if there is none, more than one, or too long a field."""
    end = header.header_end(data, 0, min(len(data), HEADERS_BYTES))
    values = [header.value_of(data, field) for field in header.fields(data, 0, end) if field.name.lower() == b"from"]
    if len(values) != 1 or len(values[0]) > MOST_FROM_BYTES:
        return None
    hosts = {one.host.lower() for one in addresses(values[0]) if one.host}
    if len(hosts) != 1:
        return None
    try:
        return normalise_domain(hosts.pop().decode("utf-8"))
    except (InvalidName, UnicodeDecodeError):
        return None


def _signatures(signers: list[Signer], data: bytes) -> list[bytes]:
    """One line for each key; the RSA one first, which everybody reads.

    dkimpy is given the body in its canonical form, which stays what it is: its own way there takes quadratic time on a
    run of blanks, and no other thread has its turn meanwhile.
    """
    end = header.header_end(data, 0, len(data))
    data = data[:end] + b"".join(canonical_body(data, end, "relaxed"))
    lines = []
    for one in sorted(signers, key=lambda signer: signer.algorithm, reverse=True):
        try:
            lines.append(_signature(one, data))
        except (dkim.DKIMException, ValueError) as error:
            _log.error("not signed", code="not_signed", domain=one.domain, selector=one.selector, error=str(error))
    return lines


def _signature(signer: Signer, data: bytes) -> bytes:
    made: bytes = dkim.sign(
        data,
        signer.selector.encode(),
        signer.domain.encode(),
        signer.private,
        canonicalize=(b"relaxed", b"relaxed"),
        signature_algorithm=signer.algorithm.encode(),
        linesep=b"\r\n",
    )
    return made
