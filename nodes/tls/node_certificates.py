"""Certificates between nodes, from the authority in the log: issued to who joins, renewed by each node for itself.

A node renews its own at two thirds of its life, or when all were called for (`mailraft cluster rotate-certificates`),
at a time of its own within a minute, with a new key. Both files are staged before either is replaced, and what an
interruption left is finished at the next start.
"""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import random
import secrets
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from actors import cell_authority
from actors.cell_authority import (
    AUTHORITY,
    NO_TOKEN,
    CallForCertificates,
    IssueToken,
    KeepAuthority,
    RevokeToken,
    UseToken,
    authority_place,
)
from actors.errors import NotAllowed
from actors.runtime import Context
from actors.sealing import SealBroken
from eventlog.errors import LogError
from eventlog.members import MEMBERS, removed_names
from eventlog.record import new_id
from nodes.config.secrets import read_secret
from nodes.files import write_atomically
from nodes.tls import contexts as tls
from nodes.tls.chain import BadCertificate
from nodes.tls.files import TlsFiles, finish, staged

if TYPE_CHECKING:
    from nodes.services import Services

LOOK_S = 10.0
SPREAD_S = 5.0  # nodes do not all change at one moment
SECRET_BYTES = 32


class Issued(NamedTuple):
    """What a node that joins is given."""

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
        sealed = self._services.directory.seal(key_pem, authority_place(certificate_pem))
        await self._services.runtime.ask(AUTHORITY, KeepAuthority(certificate_pem, sealed), context)

    def is_kept(self) -> bool:
        with self._services.log.snapshot() as snapshot:
            return cell_authority.authority(snapshot.view(AUTHORITY)) is not None

    async def token(self, name: str, ttl_s: int, context: Context) -> tuple[bytes, str, int]:
        """(id, secret, expires_ms) of a token for one node. Raises NotAllowed, TooLarge."""
        self._check_name(name)
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
        return Issued(tls.pem_of(certificate).decode(), self._authority().certificate, key)

    async def rotate(self, context: Context) -> None:
        """Has every node make itself a new certificate. Raises NotAllowed."""
        await self._services.runtime.ask(AUTHORITY, CallForCertificates(), context)

    def sign(self, name: str, key: ec.EllipticCurvePublicKey, hosts: Sequence[str]) -> x509.Certificate:
        """A node's certificate for this key. Raises NotAllowed, SealBroken."""
        kept = self._authority()
        unsealed = self._services.directory.unseal(kept.sealed, authority_place(kept.certificate))
        private = serialization.load_pem_private_key(unsealed, password=None)
        assert isinstance(private, ec.EllipticCurvePrivateKey)
        authority = tls.Authority(x509.load_pem_x509_certificate(kept.certificate.encode()), private)
        names = tls.node_names(self._services.config.node.cluster_id, name, hosts)
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        return tls.sign(authority, name, names, uses, tls.CERTIFICATE_DAYS, key)

    def _authority(self) -> cell_authority.Authority:
        with self._services.log.snapshot() as snapshot:
            found = cell_authority.authority(snapshot.view(AUTHORITY))
        if found is None:
            raise NotAllowed(
                "the cell's authority is not in its log: mailraft cluster token create DIR brings it there"
            )
        return found

    def _check_name(self, name: str) -> None:
        """A node that was removed never gets a certificate again; one that is there makes its own."""
        with self._services.log.snapshot() as snapshot:
            if name in removed_names(snapshot.view(MEMBERS)):
                raise NotAllowed(f"{name} was a node of this cell once, and a name is not used again")


class NodeCertificate:
    """Keeps this node's own certificate young. Begins when it is made; `stop` ends it."""

    def __init__(self, services: Services, files: TlsFiles) -> None:
        self._services = services
        self._files = files
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S * random.uniform(0.5, 1.0))
            try:
                if self.is_due(datetime.datetime.now(datetime.UTC)):
                    self.renew()
            except (NotAllowed, SealBroken, LogError, BadCertificate, OSError) as error:
                self._services.logger.error("this node's certificate was not renewed", reason=str(error))
            except Exception:
                self._services.logger.exception("this node's certificate was not renewed")

    def is_due(self, now: datetime.datetime) -> bool:
        """Where the authority is in the log: at two thirds of the certificate's life, or when all were called for."""
        with self._services.log.snapshot() as snapshot:
            view = snapshot.view(AUTHORITY)
            kept, called_ms = cell_authority.authority(view), cell_authority.called_ms(view)
        if kept is None:
            return False
        leaf = self._files.node.leaf
        made = leaf.not_valid_before_utc + tls.BACKDATED
        life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
        return now >= leaf.not_valid_before_utc + life * 2 / 3 or made.timestamp() * 1000 + 1000 <= called_ms

    def renew(self) -> None:
        """A new key and certificate, in the files and in use. Raises NotAllowed, BadCertificate, OSError."""
        name = self._services.config.node.name
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = CellAuthority(self._services).sign(name, key.public_key(), _hosts(self._files.node.leaf))
        pair = self._files.node_pair
        write_atomically(staged(pair.key), tls.secret_of(key), 0o600)
        write_atomically(staged(pair.certificate), tls.pem_of(certificate))  # last: now both are whole
        finish(pair.certificate, pair.key)
        self._files.reload()
        self._services.logger.info("this node has a new certificate", until=certificate.not_valid_after_utc.isoformat())


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
        raise NotAllowed("a request for a node's certificate is signed with a key of P-256")
    return key


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
