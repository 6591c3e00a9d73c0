"""A tenant out of an archive under other ids and domains, so that it can stand beside the one that it was made of.

Ids are derived of the archive, the new name and the old id: who goes on with an import that was broken off meets the
same. What names a tenant, an account, a group or an alias by id is given its new one, what names it by address the new
domain; messages are left as they are, octet for octet, and so are folders and messages' ids, which belong to a mailbox.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from actors.dkim import dkim_stream
from actors.errors import InvalidName
from actors.kind import Fact
from actors.mailbox_acl import ANYONE
from actors.names import NameClaimed, NameReleased, name_stream, normalise_domain
from actors.region import REGION
from actors.standing import STANDING
from actors.verdicts import VERDICTS
from eventlog.record import STREAM_ID_BYTES

IDS = frozenset(("account", "tenant", "owner", "whom", "reader", "holder", "group", "alias_id"))
MANY_IDS = frozenset(("members", "added", "removed"))
NAMES = frozenset(("address", "domain", "targets"))


class Renaming:
    """domains: new ones by the old, each of the tenant. Raises InvalidName for what can not be."""

    def __init__(self, archive: bytes, name: str, tenant: bytes, of: Sequence[str], domains: Mapping[str, str]) -> None:
        self._seed = hashlib.sha256(b"mailraft tenant copy\0" + archive + name.encode()).digest()
        self._domains = {normalise_domain(old): normalise_domain(new) for old, new in domains.items()}
        strangers = self._domains.keys() - set(of)
        if strangers:
            raise InvalidName(f"{min(strangers)} is no domain of the tenant in the archive")
        self.domains = tuple(self._domains.get(one, one) for one in of)
        if len(set(self.domains)) < len(of):
            raise InvalidName("two domains can not become one")
        self._old = tenant
        self._streams = {one: one for one in (REGION, STANDING, VERDICTS)}
        self._streams |= {dkim_stream(old): dkim_stream(new) for old, new in zip(of, self.domains, strict=True)}
        self.tenant = self.id(tenant)

    def id(self, old: bytes) -> bytes:
        """What an id becomes."""
        return hashlib.sha256(self._seed + old).digest()[:STREAM_ID_BYTES]

    def text(self, text: str) -> str:
        """A domain, an address, or the name of one on the log, under its new domain."""
        front, sign, domain = text.rpartition("@" if "@" in text else ":")
        return f"{front}{sign}{self._domains.get(domain, domain)}"

    def fact(self, fact: Any) -> Fact:
        """The same of what is now."""
        renamed = {one.name: self._value(fact, one.name, getattr(fact, one.name)) for one in fields(fact)}
        changed: Fact = replace(fact, **renamed)
        return changed

    def stream(self, old: bytes, fact: Any) -> bytes:
        """Where the renamed fact stands."""
        if isinstance(fact, NameClaimed | NameReleased):
            return name_stream(fact.name)
        return self._streams.get(old) or self.id(old)

    def _value(self, fact: Any, name: str, value: Any) -> Any:
        if name in IDS or name in MANY_IDS:
            return tuple(map(self._id, value)) if isinstance(value, tuple) else self._id(value)
        if name in NAMES or (name == "name" and isinstance(fact, NameClaimed | NameReleased)):
            return tuple(map(self.text, value)) if isinstance(value, tuple) else self.text(value)
        return value

    def _id(self, value: Any) -> Any:
        is_one = isinstance(value, bytes) and len(value) == STREAM_ID_BYTES and value != ANYONE
        return self.id(value) if is_one else value
