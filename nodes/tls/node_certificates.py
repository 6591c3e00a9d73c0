"""Certificates between nodes, from the authority in the log: issued to who joins, renewed by each node for itself.

A node renews its own at two thirds of its life, when all were called for (`mailraft cluster rotate-certificates`), or
when another authority issues, with a new key. Both files are staged before either is replaced, and what an
interruption left is finished at the next start. It trusts the authorities that the log says, and tells there that it
does, so that one can take the place of another (actors/cell_succession.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import hashlib
import random
import secrets
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from actors import cell_authority, cell_succession
from actors.cell_authority import (
    AUTHORITY,
    NO_TOKEN,
    NOT_KEPT,
    CallForCertificates,
    IssueToken,
    KeepAuthority,
    RevokeToken,
    UseToken,
    authority_place,
)
from actors.cell_succession import TellStanding
from actors.errors import CommandRefused, NotAllowed
from actors.runtime import Context
from actors.sealing import SealBroken
from eventlog.errors import LogError
from eventlog.members import MEMBERS, removed_names
from eventlog.record import By, new_id, stream_id
from nodes.config.secrets import read_secret
from nodes.files import replace_pair
from nodes.tls import cell_authority as ca
from nodes.tls.chain import BadCertificate
from nodes.tls.files import TlsFiles

if TYPE_CHECKING:
    from nodes.services import Services

LOOK_S = 10.0
SPREAD_S = 1.0  # nodes do not all change at one moment
SECRET_BYTES = 32


class Issued(NamedTuple):
    """What a node that joins is given; `authority`: the certificates of all that are trusted."""

    certificate: str
    authority: str
    cluster_key: bytes


class CellAuthority:
    """What can be done with the cell's authority once its key is in the log."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def keep(self, certificate_pem: str, key_pem: bytes, context: Context) -> None:
        """Puts the authority into the log, its key sealed. Raises NotAllowed where it is not this cell's."""
        try:
            found = x509.load_pem_x509_certificate(certificate_pem.encode())
            key = serialization.load_pem_private_key(key_pem, password=None)
            own = x509.load_pem_x509_certificate(self._services.config.tls.ca.read_bytes())
        except (OSError, ValueError, TypeError) as error:
            raise NotAllowed(f"the authority can not be read: {error}") from None
        if found != own or key.public_key() != own.public_key():
            raise NotAllowed("that is not the authority of this cell, or not its key")
        certificate_pem = ca.pem_of(found).decode()
        sealed = self._services.directory.seal(key_pem, authority_place(certificate_pem))
        await self._services.runtime.ask(AUTHORITY, KeepAuthority(certificate_pem, sealed), context)

    def kept(self) -> cell_authority.Authority | None:
        """The one in force in the log; None where this node does not trust it: that of a cell which was restored into
        this one is nobody's any more. Raises OSError, ValueError."""
        with self._services.log.snapshot() as snapshot:
            found = cell_authority.authority(snapshot.view(AUTHORITY))
        own = x509.load_pem_x509_certificates(self._services.config.tls.ca.read_bytes())
        return found if found and x509.load_pem_x509_certificate(found.certificate.encode()) in own else None

    async def token(self, name: str, ttl_s: int, context: Context) -> tuple[bytes, str, int]:
        """(id, secret, expires_ms) of a token for one node. Raises NotAllowed, TooLarge."""
        self._check_name(name)
        if name in (one.name for one in self._services.log.members()):
            raise NotAllowed(f"{name} is a node of this cell; a token is for one that is to join")
        id_, secret = new_id(), secrets.token_hex(SECRET_BYTES)
        now_ms = time.time_ns() // 1_000_000
        expires_ms = now_ms + ttl_s * 1000
        await self._services.runtime.ask(AUTHORITY, IssueToken(id_, name, _digest(secret), expires_ms, now_ms), context)
        return id_, secret, expires_ms

    async def revoke(self, id_: bytes, context: Context) -> None:
        await self._services.runtime.ask(AUTHORITY, RevokeToken(id_), context)

    def tokens(self) -> list[cell_authority.Token]:
        """Those that can be used."""
        now_ms = time.time_ns() // 1_000_000
        with self._services.log.snapshot() as snapshot:
            return [one for one in cell_authority.tokens(snapshot.view(AUTHORITY)) if one.expires_ms > now_ms]

    async def issue(self, id_: bytes, secret: str, csr_pem: str, hosts: Sequence[str], context: Context) -> Issued:
        """A certificate for the node that a token is for, which is used up with it. Raises NotAllowed."""
        with self._services.log.snapshot() as snapshot:
            token = cell_authority.token(snapshot.view(AUTHORITY), id_)
        if token is None:
            raise NotAllowed(NO_TOKEN)
        self._check_name(token.name)
        certificate = self.sign(token.name, _public_key(csr_pem), hosts)
        command = UseToken(id_, _digest(secret), certificate.fingerprint(hashes.SHA256()), time.time_ns() // 1_000_000)
        await self._services.runtime.ask(AUTHORITY, command, context)
        key = bytes.fromhex(read_secret(self._services.config.secrets.key_reference).decode())
        return Issued(ca.pem_of(certificate).decode(), "".join(self.trusted()), key)

    def administrator(self, name: str, csr_pem: str) -> tuple[str, str]:
        """A certificate for an administrator that has one, of the authority in force; and all that are trusted.

        Raises NotAllowed.
        """
        uri = x509.UniformResourceIdentifier(ca.admin_uri(self._services.config.node.cluster_id, name))
        uses = [ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate = ca.sign(self._unsealed(), name, [uri], uses, ca.CERTIFICATE_DAYS, _public_key(csr_pem))
        return ca.pem_of(certificate).decode(), "".join(self.trusted())

    def follower(self, name: str, csr_pem: str, days: int) -> tuple[str, str]:
        """A certificate with which another cell may ask to follow this one's log: what of it, a grant says; and all
        authorities that are trusted. Raises NotAllowed."""
        uri = x509.UniformResourceIdentifier(ca.follower_uri(self._services.config.node.cluster_id, name))
        uses = [ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate = ca.sign(self._unsealed(), name, [uri], uses, days, _public_key(csr_pem))
        return ca.pem_of(certificate).decode(), "".join(self.trusted())

    def trusted(self) -> list[str]:
        """Certificates (PEM) of the authorities that are, the one in force first."""
        if self.kept() is None:
            return []
        with self._services.log.snapshot() as snapshot:
            return cell_succession.trusted(snapshot.view(AUTHORITY))

    async def rotate(self, context: Context) -> None:
        """Has every node make itself a new certificate. Raises NotAllowed."""
        await self._services.runtime.ask(AUTHORITY, CallForCertificates(), context)

    def sign(self, name: str, key: ec.EllipticCurvePublicKey, hosts: Sequence[str]) -> x509.Certificate:
        """A node's certificate for this key. Raises NotAllowed, SealBroken."""
        names = ca.node_names(self._services.config.node.cluster_id, name, hosts)
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        return ca.sign(self._unsealed(), name, names, uses, ca.CERTIFICATE_DAYS, key)

    def _unsealed(self) -> ca.Authority:
        kept = self.kept()
        if kept is None:
            raise NotAllowed(NOT_KEPT)
        unsealed = self._services.directory.unseal(kept.sealed, authority_place(kept.certificate))
        private = serialization.load_pem_private_key(unsealed, password=None)
        assert isinstance(private, ec.EllipticCurvePrivateKey)
        return ca.Authority(x509.load_pem_x509_certificate(kept.certificate.encode()), private)

    def _check_name(self, name: str) -> None:
        """A node that was removed never gets a certificate again; one that is there makes its own."""
        with self._services.log.snapshot() as snapshot:
            if name in removed_names(snapshot.view(MEMBERS)):
                raise NotAllowed(f"{name} was a node of this cell once, and a name is not used again")


class NodeCertificate:
    """Keeps this node's own certificate young, and its trust as the log says. Begins when made; `stop` ends it."""

    def __init__(self, services: Services, files: TlsFiles) -> None:
        self._services = services
        self._files = files
        self._wanted = asyncio.Event()
        self._unsubscribe = services.log.subscribe(AUTHORITY, lambda _: self._wanted.set())
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        self._unsubscribe()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                self.trust()
                if self.is_due(datetime.datetime.now(datetime.UTC)):
                    await asyncio.sleep(random.uniform(0, SPREAD_S))
                    self.renew()
                await self._tell()
            except (CommandRefused, SealBroken, LogError, BadCertificate, OSError, ValueError) as error:
                self._services.logger.error(
                    "this node's certificate was not renewed", code="certificate_not_renewed", reason=str(error)
                )
            except Exception:
                self._services.logger.exception(
                    "this node's certificate was not renewed", code="certificate_not_renewed"
                )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S * random.uniform(0.5, 1.0)):
                    await self._wanted.wait()
            self._wanted.clear()

    def trust(self) -> None:
        """Trusts the authorities that the log says, in the file and in use. Raises OSError."""
        wanted = CellAuthority(self._services).trusted()
        found = [x509.load_pem_x509_certificate(one.encode()) for one in wanted]
        if not found or found == list(self._files.authorities):
            return
        self._files.trust(found)
        self._services.log.recheck_peers()
        self._services.logger.info("this node trusts", authorities=[_fingerprint(one).hex()[:16] for one in found])

    def is_due(self, now: datetime.datetime) -> bool:
        """Where the authority is in the log: at two thirds of the certificate's life, when all were called for, or
        where it is of another authority."""
        kept = CellAuthority(self._services).kept()
        if kept is None:
            return False
        with self._services.log.snapshot() as snapshot:
            called_ms = cell_authority.called_ms(snapshot.view(AUTHORITY))
        leaf = self._files.node.leaf
        if not _is_of(leaf, x509.load_pem_x509_certificate(kept.certificate.encode())):
            return True
        made = leaf.not_valid_before_utc + ca.BACKDATED
        life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
        return now >= leaf.not_valid_before_utc + life * 2 / 3 or made.timestamp() * 1000 + 1000 <= called_ms

    def renew(self) -> None:
        """A new key and certificate, in the files and in use. Raises NotAllowed, BadCertificate, OSError."""
        name = self._services.config.node.name
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = CellAuthority(self._services).sign(name, key.public_key(), _hosts(self._files.node.leaf))
        pair = self._files.node_pair
        replace_pair(pair.certificate, ca.pem_of(certificate), pair.key, ca.secret_of(key))
        self._files.reload()
        self._services.logger.info("this node has a new certificate", until=certificate.not_valid_after_utc.isoformat())

    async def _tell(self) -> None:
        """While another authority takes over, the others wait for this node: where it is, they read in the log."""
        with self._services.log.snapshot() as snapshot:
            view = snapshot.view(AUTHORITY)
            waited = cell_succession.successor(view) is not None or cell_succession.former(view) is not None
        if not waited or CellAuthority(self._services).kept() is None:
            return
        authorities = self._files.authorities
        issuer = next((one for one in authorities if _is_of(self._files.node.leaf, one)), authorities[0])
        name = self._services.config.node.name
        command = TellStanding(name, tuple(map(_fingerprint, authorities)), _fingerprint(issuer))
        context = Context(By("node", stream_id("node", name), "its certificate"), "rotation of the cell's authority")
        await self._services.runtime.ask(AUTHORITY, command, context)


def _is_of(leaf: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _fingerprint(certificate: x509.Certificate) -> bytes:
    return certificate.fingerprint(hashes.SHA256())


def _hosts(certificate: x509.Certificate) -> list[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]


def _public_key(csr_pem: str) -> ec.EllipticCurvePublicKey:
    """Raises NotAllowed for what is no request signed by a key of P-256."""
    try:
        request = x509.load_pem_x509_csr(csr_pem.encode())
        key = request.public_key()
    except ValueError as error:
        raise NotAllowed(f"the request for a certificate can not be read: {error}") from None
    if (
        not request.is_signature_valid
        or not isinstance(key, ec.EllipticCurvePublicKey)
        or key.curve.name != "secp256r1"
    ):
        raise NotAllowed("a request for a certificate is signed with a key of P-256")
    return key


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
