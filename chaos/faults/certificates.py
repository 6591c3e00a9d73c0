"""Faults of trust: a certificate that has expired, one of a CA that nobody knows, all of them renewed under load.

Connections that are open stay open when a certificate changes, so the links are reset: what counts is whether the next
handshake succeeds. What heals is the operator's own command, `mailraft cluster renew`.
"""

import asyncio
import datetime
import signal
from collections.abc import AsyncIterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from chaos.faults.kinds import Done, fault
from chaos.network import links_across
from chaos.site import Site
from cli import layout
from nodes.files import write_atomically
from nodes.tls.contexts import Authority, create_authority, load_authority

LONG_AGO = datetime.timedelta(days=30)


@fault("certificate-expiry", "a node's certificate has expired: its peers refuse it, and it them")
async def certificate_expiry(site: Site, node: str) -> AsyncIterator[Done]:
    authority = load_authority(site.cluster.folder / "ca")
    ended = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    reissue(_certificate(site, node), authority, ended)
    await _take_over(site, node)
    try:
        yield Done((node,), "since a day")
    finally:
        await _renew(site)


@fault("wrong-ca", "a node comes with a certificate of another CA, in its own name")
async def wrong_ca(site: Site, node: str) -> AsyncIterator[Done]:
    foreign = site.cluster.folder / "foreign-ca"
    foreign.mkdir(exist_ok=True)
    authority = create_authority(foreign, "a cell of somebody else")
    reissue(_certificate(site, node), authority, datetime.datetime.now(datetime.UTC) + LONG_AGO)
    await _take_over(site, node)
    try:
        yield Done((node,))
    finally:
        await _renew(site)


@fault("certificate-rotation", "every node gets a new key and certificate, and every link shakes hands anew")
async def certificate_rotation(site: Site) -> AsyncIterator[Done]:
    await _renew(site)
    yield Done(tuple(site.names))


def reissue(path: Path, authority: Authority, ends: datetime.datetime) -> None:
    """The certificate in this file with another issuer and end; everything else, and the key, as it was."""
    old = x509.load_pem_x509_certificate(path.read_bytes())
    builder = x509.CertificateBuilder(
        issuer_name=authority.certificate.subject,
        subject_name=old.subject,
        public_key=old.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=ends - LONG_AGO - datetime.timedelta(days=1),
        not_valid_after=ends,
    )
    for extension in old.extensions:
        if not isinstance(extension.value, x509.AuthorityKeyIdentifier):
            builder = builder.add_extension(extension.value, extension.critical)
    key = authority.key
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    signed = builder.add_extension(issuer, critical=False).sign(key, hashes.SHA256())
    write_atomically(path, signed.public_bytes(Encoding.PEM))


def _certificate(site: Site, node: str) -> Path:
    return layout.load(site.cluster.folder).node(node).folder / "node.pem"


async def _take_over(site: Site, node: str) -> None:
    """The node reads its certificate again and shows it to everybody."""
    site.signal(node, signal.SIGHUP)
    await asyncio.sleep(0.2)  # it has read it by then
    await _reset(site, node)


async def _renew(site: Site) -> None:
    await asyncio.to_thread(site.cluster.command, "cluster", "renew", str(site.cluster.folder))
    for node in site.names:
        await _reset(site, node)


async def _reset(site: Site, node: str) -> None:
    await asyncio.to_thread(site.links().reset, list(links_across([node], site.others(node))))
