"""Certificates of the log as an administrator handles them: checked, sealed, added, looked at, removed."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from actors import certificates
from actors.certificates import (
    CERTIFICATES,
    AddCertificate,
    ClientAuthority,
    DistrustClients,
    RemoveCertificate,
    Source,
    Stored,
    TrustClients,
    certificate_place,
)
from actors.directory import domain_tenant, tenant_named
from actors.errors import NoSuchCertificate, NotAllowed
from actors.names import normalise_domain
from actors.runtime import Context
from eventlog.record import NO_TENANT
from eventlog.store import Snapshot
from nodes.services import Services
from nodes.tls.chain import Chain, read_authorities, read_chain

LEAST_FINGERPRINT = 8  # hexadecimal digits


def owner_of(snapshot: Snapshot, name: str) -> bytes:
    """The tenant that a host name belongs to: by its domain, or one above it. NO_TENANT: nobody's here."""
    host = name.removeprefix("*.")
    while "." in host:
        tenant = domain_tenant(snapshot, host)
        if tenant is not None:
            return tenant
        host = host.partition(".")[2]
    return NO_TENANT


class CertificateAdmin:
    """What can be done to the certificates of this cell."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def all(self, tenant: bytes | None = None) -> list[Stored]:
        """Oldest first; of one tenant alone where it is given."""
        with self._services.log.snapshot() as snapshot:
            found = certificates.all_certificates(snapshot.view(CERTIFICATES))
        return [one for one in found if tenant is None or one.tenant == tenant]

    def require(self, wanted: str) -> Stored:
        """By fingerprint, the beginning of one, or a name of it. Raises NoSuchCertificate, NotAllowed."""
        wanted = wanted.lower().replace(":", "")
        with self._services.log.snapshot() as snapshot:
            view = snapshot.view(CERTIFICATES)
            if (named := certificates.shown_for(view, wanted)) is not None:
                return named
            is_mark = len(wanted) >= LEAST_FINGERPRINT and all(digit in "0123456789abcdef" for digit in wanted)
            every = certificates.all_certificates(view) if is_mark else []
        found = [one for one in every if one.fingerprint.hex().startswith(wanted)]
        if len(found) > 1:
            raise NotAllowed(f"{len(found)} certificates begin with {wanted}: give more of it")
        if not found:
            raise NoSuchCertificate(f"there is no certificate {wanted}")
        return found[0]

    async def add(
        self,
        chain_pem: bytes,
        key_pem: bytes,
        context: Context,
        *,
        names: Iterable[str] = (),
        tenant: bytes | None = None,
        source: Source = "given",
    ) -> Stored:
        """Shown from now on, on every node. `tenant`: whose all its names must be.

        Raises BadCertificate, NotAllowed, NameTaken, TooLarge, InvalidName, Rejected, OutcomeUnknown.
        """
        now = datetime.datetime.now(datetime.UTC)
        wanted = [normalise_domain(name) for name in names]
        chain = read_chain(chain_pem, key_pem, now, names=wanted, authorities=self._trusted())
        owner = self._owner(chain, tenant)
        command = AddCertificate(
            owner,
            chain.fingerprint,
            chain.names,
            chain.chain_pem().decode(),
            self._services.directory.seal(chain.key_pem(), certificate_place(chain.fingerprint)),
            source,
            _ms(chain.leaf.not_valid_before_utc),
            _ms(chain.not_after),
        )
        await self._services.runtime.ask(CERTIFICATES, command, context._replace(tenant=owner))
        return self.require(chain.fingerprint.hex())

    async def remove(self, wanted: str, context: Context) -> Stored:
        """Raises NoSuchCertificate, NotAllowed."""
        found = self.require(wanted)
        command = RemoveCertificate(found.fingerprint)
        await self._services.runtime.ask(CERTIFICATES, command, context._replace(tenant=found.tenant))
        return found

    def authorities(self) -> list[ClientAuthority]:
        """Whose certificates log clients in, the cell's first, then by tenant."""
        with self._services.log.snapshot() as snapshot:
            return certificates.client_authorities(snapshot.view(CERTIFICATES), b"")

    async def trust(self, tenant_name: str | None, name: str, pem: bytes, context: Context) -> None:
        """Lets certificates of these authorities log in to a tenant's accounts; no tenant: to everybody's.

        Raises BadCertificate, NoSuchTenant, TooLarge.
        """
        found = read_authorities(pem)
        tenant = self._tenant(tenant_name)
        text = "".join(one.public_bytes(Encoding.PEM).decode() for one in found)
        await self._services.runtime.ask(
            CERTIFICATES, TrustClients(tenant, name, text), context._replace(tenant=tenant)
        )

    async def distrust(self, tenant_name: str | None, name: str, context: Context) -> None:
        """Ends that, for connections from now on. Raises NoSuchTenant."""
        tenant = self._tenant(tenant_name)
        await self._services.runtime.ask(CERTIFICATES, DistrustClients(tenant, name), context._replace(tenant=tenant))

    def _tenant(self, name: str | None) -> bytes:
        if name is None:
            return NO_TENANT
        with self._services.log.snapshot() as snapshot:
            return tenant_named(snapshot, name)

    def _owner(self, chain: Chain, tenant: bytes | None) -> bytes:
        """The one tenant whose all the names are, or nobody."""
        with self._services.log.snapshot() as snapshot:
            owners = {name: owner_of(snapshot, name) for name in chain.names}
        if tenant is not None:
            foreign = [name for name, owner in owners.items() if owner != tenant]
            if foreign:
                raise NotAllowed(f"{foreign[0]} is in no domain of this tenant")
        distinct = set(owners.values())
        return distinct.pop() if len(distinct) == 1 else NO_TENANT

    def _trusted(self) -> Sequence[x509.Certificate]:
        try:
            return x509.load_pem_x509_certificates(self._services.config.tls.ca.read_bytes())
        except (OSError, ValueError):
            return ()


def _ms(time: datetime.datetime) -> int:
    return int(time.timestamp() * 1000)
