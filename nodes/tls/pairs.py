"""A certificate and its key as the configuration names them: read, checked, and what is wrong said with the key's name.

No state, and no clock: who asks says what time it is.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cryptography import x509

from nodes.config.node import TlsSection
from nodes.tls.chain import BadCertificate, Chain, Expired, read_chain
from nodes.tls.findings import RENEW


class Pair(NamedTuple):
    """The keys of the configuration that name them, and their files. `renewal`: what to do where it has expired."""

    certificate_key: str
    certificate: Path
    key_key: str
    key: Path
    renewal: str


def pairs_of(section: TlsSection) -> Iterator[Pair]:
    """The node's own first; then that for mail clients, where there is one."""
    yield Pair("tls.certificate", section.certificate, "tls.key", section.key, RENEW)
    if section.server_certificate is not None and section.server_key is not None:
        given = (section.server_certificate, "tls.server_key", section.server_key)
        yield Pair("tls.server_certificate", *given, "a new one in these files, which are then read again")


def read_pair(pair: Pair, authorities: Path, now: datetime.datetime) -> Chain:
    """As `chain_of`, and the texts of what it raises name the configuration's keys."""
    place = f'{pair.certificate_key} = "{pair.certificate}"'
    try:
        return chain_of(pair, authorities, now)
    except Expired as error:
        raise Expired(f"{place}: {error}", error.last_valid, error.hint) from None
    except BadCertificate as error:
        raise BadCertificate(f'{place}, {pair.key_key} = "{pair.key}": {error}', error.hint) from None


def chain_of(pair: Pair, authorities: Path, now: datetime.datetime) -> Chain:
    """Checked as of `now`; certificates in the file `authorities` are trusted beside the system's.

    Raises Expired where nothing but its date is wrong, else BadCertificate.
    """
    try:
        chain, key = pair.certificate.read_bytes(), pair.key.read_bytes()
        trusted = x509.load_pem_x509_certificates(authorities.read_bytes())
    except (OSError, ValueError) as error:
        raise BadCertificate(f"can not be read: {error}", "files that this user may read") from None
    try:
        return read_chain(chain, key, now, authorities=trusted)
    except Expired as error:
        raise Expired(str(error), error.last_valid, pair.renewal) from None
