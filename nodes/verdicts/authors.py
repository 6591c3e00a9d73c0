"""The domains of a message's authors: From, of which DMARC wants exactly one field (RFC 7489 6.6.1)."""

from __future__ import annotations

import contextlib
from functools import lru_cache
from typing import NamedTuple

from actors.errors import InvalidName
from actors.names import normalise_domain
from nodes.mime.addresses import addresses
from nodes.mime.header import FIELDS_LIMIT
from nodes.verdicts.signed import Message

# Of all From fields together: more is not read to its end, where the author that is shown may stand.
MOST_FROM_BYTES = 16 * 1024
MOST_DOMAINS = 5
REMEMBERED_BYTES = 500


class Authors(NamedTuple):
    """`domains` in order, each once; `is_ambiguous`: readers might show another author than was judged."""

    domains: tuple[str, ...]
    is_ambiguous: bool


def authors(message: Message) -> Authors:
    """Never raises: what is no domain is left out."""
    found = message.named(b"from")
    domains: dict[str, None] = {}
    left = MOST_FROM_BYTES
    for one in found:
        value = one.value[:left]
        left -= len(value)
        domains |= dict.fromkeys(_remembered(value) if len(value) <= REMEMBERED_BYTES else _domains(value))
    ambiguous = len(found) > 1 or any(len(one.value) > MOST_FROM_BYTES for one in found) or len(domains) > MOST_DOMAINS
    cut_off = len(message.fields) >= FIELDS_LIMIT  # what stands behind is not seen here
    return Authors(tuple(domains)[:MOST_DOMAINS], ambiguous or cut_off)


def _domains(value: bytes) -> tuple[str, ...]:
    domains = []
    for address in addresses(value):
        if address.host:
            with contextlib.suppress(InvalidName):
                domains.append(normalise_domain(address.host.decode("utf-8", "replace")))
    return tuple(domains)


_remembered = lru_cache(4096)(_domains)  # who writes once writes again
